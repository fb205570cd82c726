//! How the parts of a network are applied: in training, at rest, to intervals.

use crate::layers::Unit;
use crate::pass::Pass;
use tarrl_tensor::{Pool, Tensor};

/// What happens to values on their way through an arrangement of units `U`. The arrangement is written once; whoever
/// walks through it says what each part does. Sums and means are the same for all.
pub(crate) trait Walk<U> {
    /// One unit.
    fn unit(&mut self, unit: &U, x: &Tensor) -> Tensor;

    /// The end of a residual block, `relu(x + y)`.
    fn join(&mut self, x: &Tensor, y: &Tensor) -> Tensor {
        x.add_relu(y)
    }

    /// The last unit of a residual block and its end, `relu(unit(x) + skip)`.
    fn last_unit(&mut self, unit: &U, x: &Tensor, skip: &Tensor) -> Tensor {
        let y = self.unit(unit, x);
        self.join(&y, skip)
    }

    /// The largest value of each window.
    fn max_pool(&mut self, x: &Tensor, pool: Pool) -> Tensor {
        x.max_pool(pool)
    }
}

/// The forward pass.
impl Walk<Unit> for Pass {
    #[track_caller]
    fn unit(&mut self, unit: &Unit, x: &Tensor) -> Tensor {
        unit.forward(x, self)
    }

    #[track_caller]
    fn last_unit(&mut self, unit: &Unit, x: &Tensor, skip: &Tensor) -> Tensor {
        unit.forward_add_relu(x, skip, self)
    }
}
