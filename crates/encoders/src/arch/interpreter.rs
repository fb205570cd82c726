//! Interpreters of an architecture: how its units are applied in training, at inference, and to intervals.

use crate::forward_context::ForwardContext;
use crate::layers::ConvBnRelu;
use tarrl_tensor::{Pool, Tensor};

/// How the units `U` of an architecture are applied. The architecture is written once as a sequence of these calls; sums
/// and means are the same for every interpreter.
pub(crate) trait Interpreter<U> {
    /// One unit.
    fn unit(&mut self, unit: &U, x: &Tensor) -> Tensor;

    /// The sum at the end of a residual block, `relu(x + y)`.
    fn add_relu(&mut self, x: &Tensor, y: &Tensor) -> Tensor {
        x.add_relu(y)
    }

    /// The last unit of a residual block, its shortcut and their sum, `relu(last(y) + shortcut(x))`.
    fn residual_end(&mut self, last: &U, y: &Tensor, shortcut: Option<&U>, x: &Tensor) -> Tensor {
        let y = self.unit(last, y);
        match shortcut {
            Some(unit) => {
                let skip = self.unit(unit, x);
                self.add_relu(&y, &skip)
            }
            None => self.add_relu(&y, x),
        }
    }

    /// The largest value of each window.
    fn max_pool(&mut self, x: &Tensor, pool: Pool) -> Tensor {
        x.max_pool(pool)
    }
}

/// The differentiable forward pass, in train or eval mode.
impl Interpreter<ConvBnRelu> for ForwardContext {
    #[track_caller]
    fn unit(&mut self, unit: &ConvBnRelu, x: &Tensor) -> Tensor {
        unit.forward(x, self)
    }

    /// The shortcut is computed first, so that the last unit can add it in its own pass over memory.
    #[track_caller]
    fn residual_end(
        &mut self,
        last: &ConvBnRelu,
        y: &Tensor,
        shortcut: Option<&ConvBnRelu>,
        x: &Tensor,
    ) -> Tensor {
        let before = self.statistics().len();
        let skip = shortcut.map_or_else(|| x.clone(), |unit| unit.forward(x, self));
        let early = self.statistics().len() - before;
        let end = last.forward_add_relu(y, &skip, self);
        self.defer(before, early);
        end
    }
}
