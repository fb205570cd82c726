//! The kernels of the backend: for each file of `kernels/` the launch of its kernels, and products and convolutions by the
//! libraries.

pub(crate) mod augment;
pub(crate) mod conv;
pub(crate) mod conv_cudnn;
pub(crate) mod copy;
pub(crate) mod layout;
pub(crate) mod matmul;
pub(crate) mod norm;
pub(crate) mod optimizer;
pub(crate) mod pointwise;
pub(crate) mod pool;
pub(crate) mod random;
pub(crate) mod reduce;
pub(crate) mod sizes;
pub(crate) mod softmax;
