//! The recorded function: steps on tensors of ours, in order.

use std::fmt;
use std::sync::Arc;
use tarrl_tensor::{DType, Tensor};

use super::size::Size;

/// A step's computation, of its operands and the number of images.
pub(crate) type Run = Arc<dyn Fn(&[Tensor], usize) -> Tensor + Send + Sync>;

/// One step; its result is the value after those of all earlier steps. Value 0 is the batch of images.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) run: Run,
    pub(crate) operands: Vec<Operand>,
}

/// An operand of a step, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    Value(usize),
    Constant(usize),
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.name, self.operands)
    }
}

/// Steps that compute one value from a batch of images `(n, h, w, c)`.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) steps: Vec<Step>,
    /// Name and value.
    pub(crate) constants: Vec<(String, Tensor)>,
    /// The step after which a value is needed no more.
    last_use: Vec<usize>,
    output: usize,
    /// The extents of the output.
    pub(crate) shape: Vec<Size>,
    /// The elements of the largest value for one image.
    pub(crate) widest: usize,
    /// Whether it was made for any number of images on an assumption that has to be tried.
    pub(crate) is_guess: bool,
}

impl Program {
    /// Keeps the steps that the output needs.
    pub(crate) fn new(
        steps: Vec<Step>,
        constants: Vec<(String, Tensor)>,
        output: usize,
        shape: Vec<Size>,
        widest: usize,
    ) -> Self {
        let mut last_use = vec![0; steps.len() + 1];
        let mut needed = vec![false; steps.len() + 1];
        needed[output] = true;
        last_use[output] = usize::MAX;
        for (at, step) in steps.iter().enumerate().rev().filter(|(at, _)| *at < output) {
            if !needed[at + 1] {
                continue;
            }
            for operand in &step.operands {
                if let Operand::Value(value) = *operand {
                    needed[value] = true;
                    last_use[value] = last_use[value].max(at);
                }
            }
        }
        // What is not needed is replaced by nothing at all, so that values keep their numbers.
        let mut used = vec![false; constants.len()];
        let kept = steps.into_iter().enumerate().map(|(at, mut step)| {
            if !needed[at + 1] {
                step.operands.clear();
            }
            for operand in &step.operands {
                if let Operand::Constant(constant) = *operand {
                    used[constant] = true;
                }
            }
            step
        });
        let steps: Vec<Step> = kept.collect();
        let constants = constants
            .into_iter()
            .zip(used)
            .map(|((name, tensor), used)| (name, if used { tensor } else { tensor.zeros_like() }));
        Program { constants: constants.collect(), steps, last_use, output, shape, widest, is_guess: false }
    }

    /// The output for a batch of `n` images, of any extents that the program was made for.
    pub(crate) fn run(&self, images: &Tensor) -> Tensor {
        let n = images.shape()[0];
        let mut values: Vec<Option<Tensor>> = vec![None; self.steps.len() + 1];
        values[0] = Some(images.clone());
        for (at, step) in self.steps.iter().enumerate() {
            if step.operands.is_empty() {
                continue;
            }
            let operand = |operand: &Operand| match *operand {
                Operand::Value(value) => values[value].clone().expect("a value precedes its uses"),
                Operand::Constant(constant) => self.constants[constant].1.clone(),
            };
            let operands: Vec<Tensor> = step.operands.iter().map(operand).collect();
            values[at + 1] = Some((step.run)(&operands, n));
            for operand in &step.operands {
                if let Operand::Value(value) = *operand
                    && self.last_use[value] == at
                {
                    values[value] = None;
                }
            }
        }
        values[self.output].clone().expect("the output is one of the values")
    }

    /// The same function with constants of another type of floats.
    pub(crate) fn cast(&self, dtype: DType) -> Self {
        let constants = self.constants.iter().map(|(name, tensor)| (name.clone(), tensor.cast(dtype)));
        Program { constants: constants.collect(), ..self.clone() }
    }
}
