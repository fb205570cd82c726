//! Optimizer updates of all parameters in one launch (LARS: two): the launches of `kernels/optimizer.cu`.

use crate::driver::{Block, read};
use crate::gpu::Gpu;
use crate::kernels::Element;
use crate::ops::sizes::like;
use std::sync::Arc;
use tarrl_tensor::extensions::{LarsRatio, ParamUpdate, UpdateRule, UpdatedParam};

/// Elements of a parameter that one block moves: eight for each thread.
const CHUNK: usize = 8 * crate::launch::THREADS;

pub(crate) fn update(
    gpu: &Arc<Gpu>,
    rule: UpdateRule,
    parameters: &[ParamUpdate<'_>],
) -> Option<Vec<UpdatedParam>> {
    let dtype = parameters.first()?.value.dtype();
    if parameters.iter().any(|p| p.value.dtype() != dtype) {
        return None;
    }
    let (kernel, memories) = match rule {
        UpdateRule::Sgd { .. } => ("update_sgd", 1),
        UpdateRule::Lars { .. } => ("update_lars", 1),
        UpdateRule::Adam { .. } => ("update_adam", 2),
    };
    let (mut slots, mut chunks, mut moved) = (Vec::new(), Vec::new(), Vec::new());
    for (number, p) in parameters.iter().enumerate() {
        let len = p.value.len();
        assert!(
            p.memory.len() == memories && p.memory.iter().chain([p.gradient]).all(|a| a.len() == len),
            "{kernel}: parameter {number} of {len} elements with memory and gradient of other lengths"
        );
        let from = |array| read(gpu, kernel, array).pointer();
        let value = like(gpu, kernel, p.value);
        let memory: Vec<Block> = p.memory.iter().map(|m| like(gpu, kernel, m)).collect();
        // A second memory that a rule does not have is never read.
        let second = |of: &dyn Fn(usize) -> u64| if memories == 2 { of(1) } else { 0 };
        slots.extend([from(p.value), from(p.gradient), from(&p.memory[0]), second(&|i| from(&p.memory[i]))]);
        slots.extend([value.pointer(), memory[0].pointer(), second(&|i| memory[i].pointer())]);
        let pieces = len.div_ceil(CHUNK) as u64;
        slots.extend([p.decay.to_bits(), chunks.len() as u64 / 3, pieces, u64::from(p.adapts)]);
        for start in (0..len).step_by(CHUNK) {
            chunks.extend([number as u32, start as u32, (start + CHUNK).min(len) as u32]);
        }
        let memory = memory.into_iter().map(|block| Arc::new(block) as _).collect();
        moved.push(UpdatedParam { value: Arc::new(value), memory });
    }
    let slots = gpu.expect(kernel, Block::upload(gpu, &slots));
    let blocks = chunks.len() / 3;
    let chunks = gpu.expect(kernel, Block::upload(gpu, &chunks));
    let threads = [crate::launch::THREADS, 1];
    let element = Element::real(kernel, dtype);
    let launch = |kernel| gpu.launch(kernel, element).arg(&slots).arg(&chunks);
    match rule {
        UpdateRule::Sgd { lr, momentum, nesterov } => {
            launch(kernel).arg(lr).arg(momentum).arg(nesterov).run([blocks, 1], threads);
        }
        UpdateRule::Lars { lr, momentum, trust, ratio } => {
            let [official, clipped] = [LarsRatio::Official, LarsRatio::Clipped].map(|form| ratio == form);
            let pieces = gpu.block(kernel, 16 * blocks);
            launch("update_squares").arg(official).arg(&pieces).run([blocks, 1], threads);
            let launch = launch(kernel).arg(&pieces).arg(lr).arg(momentum).arg(trust);
            launch.arg(official).arg(clipped).run([blocks, 1], threads);
        }
        UpdateRule::Adam { first, second, eps, lr, rate, scale } => {
            let launch = launch(kernel).arg(first).arg(second).arg(eps).arg(lr).arg(rate).arg(scale);
            launch.run([blocks, 1], threads);
        }
    }
    Some(moved)
}
