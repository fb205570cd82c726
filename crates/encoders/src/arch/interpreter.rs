//! How the parts of a network are applied: in training, at rest, to intervals.

use crate::forward_context::ForwardContext;
use crate::layers::ConvBnRelu;
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

    /// The last unit of a residual block, its shortcut and its end, `relu(last(y) + shortcut(x))`.
    fn block_end(&mut self, last: &U, y: &Tensor, shortcut: Option<&U>, x: &Tensor) -> Tensor {
        let y = self.unit(last, y);
        match shortcut {
            Some(unit) => {
                let skip = self.unit(unit, x);
                self.join(&y, &skip)
            }
            None => self.join(&y, x),
        }
    }

    /// The largest value of each window.
    fn max_pool(&mut self, x: &Tensor, pool: Pool) -> Tensor {
        x.max_pool(pool)
    }
}

/// The forward pass.
impl Walk<ConvBnRelu> for ForwardContext {
    #[track_caller]
    fn unit(&mut self, unit: &ConvBnRelu, x: &Tensor) -> Tensor {
        unit.forward(x, self)
    }

    /// The shortcut is computed first, so that the last unit can add it in its own pass over memory.
    #[track_caller]
    fn block_end(
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
