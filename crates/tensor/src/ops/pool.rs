//! Pooling of `(n, h, w, c)`.

use super::wrap;
use crate::array::DType;
use crate::backend::{Pool, PoolShape};
use crate::op::Op;
use crate::shape::Shape;
use crate::tensor::Tensor;

impl Tensor {
    /// The mean of each window, padding counted as zero: `(n, h, w, c)` to `(n, oh, ow, c)`.
    #[track_caller]
    pub fn avg_pool(&self, pool: Pool) -> Tensor {
        let shape = pool_shape("avg_pool", self.shape(), pool);
        sum_pool(self, shape).mul_scalar(1.0 / (pool.window * pool.window) as f64)
    }

    /// The largest element of each window; the gradient goes to the first.
    #[track_caller]
    pub fn max_pool(&self, pool: Pool) -> Tensor {
        let shape = pool_shape("max_pool", self.shape(), pool);
        let index = self.device().max_pool(self.array(), &shape);
        let index = wrap(self, [shape.output().len()], DType::U32, index);
        self.pick(&index, Op::MaxPool(pool), shape.output())
    }

    /// The mean over all positions: `(n, h, w, c)` to `(n, c)`.
    #[track_caller]
    pub fn global_avg_pool(&self) -> Tensor {
        let &[n, h, w, c] = &self.shape()[..] else {
            panic!("global_avg_pool: images of {:?}", self.shape())
        };
        self.reshape([n, h * w, c]).mean(1).reshape([n, c])
    }
}

fn sum_pool(x: &Tensor, shape: PoolShape) -> Tensor {
    let y = wrap(x, shape.output(), x.dtype(), x.device().sum_pool(x.array(), &shape));
    Tensor::record(Op::SumPool(shape.pool), y, &[x], move |p| vec![Some(sum_pool_adjoint(p.dy(), shape))])
}

fn sum_pool_adjoint(dy: &Tensor, shape: PoolShape) -> Tensor {
    let input = [shape.n, shape.h, shape.w, shape.c];
    let dx = wrap(dy, input, dy.dtype(), dy.device().sum_pool_adjoint(dy.array(), &shape));
    Tensor::record(Op::SumPoolAdjoint(shape.pool), dx, &[dy], move |p| vec![Some(sum_pool(p.dy(), shape))])
}

#[track_caller]
fn pool_shape(op: &str, x: &Shape, pool: Pool) -> PoolShape {
    match x[..] {
        [n, h, w, c]
            if pool.stride > 0
                && pool.window > 0
                && pool.pad < pool.window
                && h + 2 * pool.pad >= pool.window
                && w + 2 * pool.pad >= pool.window =>
        {
            PoolShape { n, h, w, c, pool }
        }
        _ => panic!("{op}: images {x:?}, {pool:?}"),
    }
}
