//! The convolutions of two encoders as graphs of cuDNN, which checks them without a GPU.

use crate::progress::show;
use anyhow::bail;
use tarrl_cuda::{Places, finalize_graphs};
use tarrl_tensor::{Conv, ConvShape};

const BATCH: usize = 512;

/// Finalizes every graph, or says in one line that cuDNN is not installed.
pub(crate) fn check() -> anyhow::Result<()> {
    match finalize_graphs(&Places::usual(), &shapes()) {
        None => {
            show!("   did not give graphs to cuDNN: it is not installed (Python package nvidia-cudnn-cu13)")
        }
        Some(Ok((version, count))) => show!(
            "   cuDNN {version} takes {count} graphs without a GPU: ResNet-18 and ConvSmall on {BATCH} images, \
             forward and both adjoints, f32 and bf16"
        ),
        Some(Err(refused)) => bail!("{refused}"),
    }
    Ok(())
}

/// Every convolution that differs of ResNet-18 on 32×32 pixels and of ConvSmall on 28×28 of one channel.
fn shapes() -> Vec<ConvShape> {
    let mut shapes = vec![shape(32, [3, 64], 3, 1)];
    let stages = [(32, 64), (16, 128), (8, 256), (4, 512)];
    for (i, (side, channels)) in stages.into_iter().enumerate() {
        if i > 0 {
            let (before, fewer) = stages[i - 1];
            shapes.push(shape(before, [fewer, channels], 3, 2));
            shapes.push(shape(before, [fewer, channels], 1, 2));
        }
        shapes.push(shape(side, [channels, channels], 3, 1));
    }
    let small = [(28, [1, 32], 1), (28, [32, 64], 2), (14, [64, 64], 1), (14, [64, 128], 2)];
    shapes.extend(small.map(|(side, channels, stride)| shape(side, channels, 3, stride)));
    shapes
}

fn shape(side: usize, [c_in, c_out]: [usize; 2], taps: usize, stride: usize) -> ConvShape {
    let conv = Conv { stride, pad: taps / 2, groups: 1 };
    ConvShape { n: BATCH, h: side, w: side, c_in, kh: taps, kw: taps, c_out, conv }
}
