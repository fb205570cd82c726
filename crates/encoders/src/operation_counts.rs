//! Operation counts: multiply-adds of convolutions and matrix products, read from the recorded graph.

use tarrl_tensor::{ConvShape, Cpu, DType, Edge, Key, Op, Shape, Tensor, topological_order};

use crate::{Encoder, EncoderConfig};

/// The convolutions that lead to `y`, in the order of their evaluation.
///
/// # Panics
/// If a recorded convolution does not have operands of four axes.
pub fn convolutions(y: &Tensor) -> Vec<ConvShape> {
    let mut found = Vec::new();
    for node in topological_order(y) {
        if let (Op::Conv2d(conv) | Op::Conv2dBias { conv, .. }, [x, w, ..]) = (node.op(), node.edges()) {
            let ([n, h, width, c_in], [kh, kw, _, c_out]) = (extents(x), extents(w));
            found.push(ConvShape { n, h, w: width, c_in, kh, kw, c_out, conv: *conv });
        }
    }
    found
}

/// Multiply-adds of all convolutions and matrix products that lead to `y`: one forward pass, padding included.
pub fn multiply_adds(y: &Tensor) -> u64 {
    let convolved: usize = convolutions(y).iter().map(ConvShape::macs).sum();
    let product = |node: &tarrl_tensor::Node| match (node.op(), node.edges()) {
        (Op::Matmul(transpose), [a, _]) => {
            let a = shape(a);
            let contracted = a[a.rank() - if transpose.a { 2 } else { 1 }];
            node.shape().iter().product::<usize>() * contracted
        }
        _ => 0,
    };
    let multiplied: usize = topological_order(y).iter().map(|node| product(node)).sum();
    (convolved + multiplied) as u64
}

/// Multiply-adds of the encoder of `config` for one image of `[height, width, channels]`.
///
/// ```
/// use tarrl_encoders::{EncoderConfig, encoder_multiply_adds};
///
/// // ConvSmall: 28²·32·1, 14²·64·32, 14²·64·64 and 7²·128·64 windows of nine.
/// assert_eq!(encoder_multiply_adds(&EncoderConfig::default(), [28, 28, 1]), 14_676_480);
/// ```
///
/// # Panics
/// If the image does not fit the encoder.
#[track_caller]
pub fn encoder_multiply_adds(config: &EncoderConfig, [h, w, c]: [usize; 3]) -> u64 {
    let device = Cpu::default().open();
    let image = Tensor::full(&device, [1, h, w, c], DType::F32, 0.0).requires_grad();
    multiply_adds(&Encoder::new(config, &device, Key::new(0)).inference().forward(&image))
}

fn extents(edge: &Edge) -> [usize; 4] {
    let shape = shape(edge);
    shape[..].try_into().unwrap_or_else(|_| panic!("convolutions: an operand of shape {shape:?}"))
}

fn shape(edge: &Edge) -> Shape {
    match edge {
        Edge::Tracked(node) => *node.shape(),
        Edge::Constant(array) => *array.shape(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arch;

    #[test]
    fn matrix_products_are_counted_with_either_operand_transposed() {
        let device = Cpu::default().open();
        let a = Tensor::full(&device, [2, 3], DType::F32, 1.0).requires_grad();
        let b = Tensor::full(&device, [3, 5], DType::F32, 1.0);
        assert_eq!(multiply_adds(&a.matmul(&b)), 2 * 3 * 5);
        let right = tarrl_tensor::Transpose::RIGHT;
        assert_eq!(multiply_adds(&a.matmul_with(&b.t(), right)), 2 * 3 * 5);
        let left = tarrl_tensor::Transpose { a: true, b: false };
        assert_eq!(multiply_adds(&a.matmul_with(&a, left)), 3 * 2 * 3);
    }

    /// A vision transformer has products where convolutional networks have none.
    #[test]
    fn a_vision_transformer_needs_more_than_its_convolutions() {
        let config = EncoderConfig { arch: Arch::VitTiny, in_channels: 3, side: 32, ..Default::default() };
        assert!(encoder_multiply_adds(&config, [32, 32, 3]) > 100_000_000);
    }
}
