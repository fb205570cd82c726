//! Copies of many arrays in one launch: the inputs and results of a graph.

use crate::driver::{Block, read};
use crate::gpu::Gpu;
use crate::kernels::Element;
use crate::launch::THREADS;
use crate::ops::sizes::size;
use std::sync::Arc;
use tarrl_tensor::Array;

/// Bytes that one block of threads copies at most.
const PIECE: usize = 1 << 16;

/// Arrays of the same values in memory of their own.
#[track_caller]
pub(crate) fn copies(gpu: &Arc<Gpu>, arrays: &[Array]) -> Vec<Array> {
    let blocks: Vec<Block> = arrays.iter().map(|x| gpu.block("copy", x.len() * size(x.dtype()))).collect();
    copy_into(gpu, arrays.iter().zip(&blocks));
    let wrap = |(x, block): (&Array, Block)| Array::wrap(x.device(), *x.shape(), x.dtype(), Arc::new(block));
    arrays.iter().zip(blocks).map(wrap).collect()
}

/// Copies arrays to blocks of as many bytes.
#[track_caller]
pub(crate) fn copy_into<'a>(gpu: &Arc<Gpu>, pairs: impl Iterator<Item = (&'a Array, &'a Block)>) {
    let mut pieces: Vec<u64> = Vec::new();
    for (x, to) in pairs {
        let (from, to, bytes) = (read(gpu, "copy", x).pointer(), to.pointer(), x.len() * size(x.dtype()));
        for start in (0..bytes).step_by(PIECE) {
            pieces.extend([from + start as u64, to + start as u64, PIECE.min(bytes - start) as u64]);
        }
    }
    if pieces.is_empty() {
        return;
    }
    let count = pieces.len() / 3;
    let pieces = gpu.expect("copy", Block::upload(gpu, &pieces));
    gpu.launch("copy", Element::Named).arg(&pieces).run([count, 1], [THREADS, 1]);
}
