//! Workloads ready to run.

use crate::ssl::Ssl;
use crate::values::uniform;
use crate::workload::{Activity, Workload, encoder_config, image_shape};
use tarrl_encoders::{
    Encoder, ForwardContext, InferenceEncoder, Precision, multiply_adds, parameters, track,
};
use tarrl_tensor::{Device, Key, Tensor, backward, value_and_grad};

/// A workload with its network and its images, ready to run.
pub struct Step {
    body: Body,
    /// `(n, h, w, c)`: images, and for a self-supervised step their other views.
    views: [Tensor; 2],
    flops: u64,
}

/// From both views to everything that was computed for.
type Body = Box<dyn FnMut(&[Tensor; 2]) -> Vec<Tensor>>;

impl Step {
    /// A workload on `batch` random images and a network with random weights.
    ///
    /// # Panics
    /// If `batch` is less than two: batch norm needs several values.
    #[track_caller]
    pub fn new(workload: Workload, batch: usize, device: &Device) -> Self {
        Step::in_precision(workload, batch, device, Precision::F32)
    }

    /// The same with an encoder that computes in another type.
    ///
    /// # Panics
    /// If `batch` is less than two, or the device does not compute in that type.
    #[track_caller]
    pub fn in_precision(workload: Workload, batch: usize, device: &Device, precision: Precision) -> Self {
        assert!(batch > 1, "Step::new: {workload} on a batch of {batch}, not two or more");
        let key = Key::new(0);
        let shape = [&[batch], &image_shape(workload.arch)[..]].concat();
        let views = ["first", "second"].map(|view| uniform(device, &shape, key.fold(view)));
        let encoder = Encoder::new(&encoder_config(workload.arch), device, key.fold("encoder"));
        let encoder = encoder.with_precision(precision);
        let one = encoder.inference().forward(&views[0].slice(0, 0, 1).requires_grad());
        let flops = 2 * multiply_adds(&one) * batch as u64 * workload.activity.passes();
        let body = match workload.activity {
            Activity::Forward => forward(encoder.inference()),
            Activity::InputGrad => input_grad(encoder.inference()),
            Activity::Train => train(encoder),
            Activity::SslStep => {
                let mut ssl = Ssl::new(encoder, device, key);
                Box::new(move |views: &[Tensor; 2]| ssl.step(views))
            }
        };
        Step { body, views, flops }
    }

    /// Runs it once and returns what it computed: representations, or a loss with its gradients, or a loss with the
    /// parameters after the update.
    pub fn run(&mut self) -> Vec<Tensor> {
        (self.body)(&self.views)
    }

    /// The same on other images of the same shape.
    pub fn run_on(&mut self, views: &[Tensor; 2]) -> Vec<Tensor> {
        (self.body)(views)
    }

    /// Floating-point operations of one run, as this crate counts them.
    pub fn flops(&self) -> u64 {
        self.flops
    }
}

fn forward(encoder: InferenceEncoder) -> Body {
    Box::new(move |[x, _]| vec![encoder.forward(x)])
}

fn input_grad(encoder: InferenceEncoder) -> Body {
    Box::new(move |[x, _]| {
        let (loss, slope) = value_and_grad(x, |x| mean_square(&encoder.forward(x)));
        vec![loss, slope]
    })
}

fn train(mut encoder: Encoder) -> Body {
    track(&mut encoder);
    let weights = parameters(&encoder);
    Box::new(move |[x, _]| {
        let loss = mean_square(&encoder.forward(x, &mut ForwardContext::train()));
        let value = loss.detach();
        let mut results = backward(loss, &weights.iter().collect::<Vec<_>>());
        results.push(value);
        results
    })
}

/// `Σ z² / n` of representations `(n, d)`.
fn mean_square(z: &Tensor) -> Tensor {
    z.square().sum_all().mul_scalar(1.0 / z.shape()[0] as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::{Cpu, cpu};

    #[test]
    fn every_workload_gives_finite_numbers_that_are_not_all_zero() {
        let device = cpu();
        for workload in Workload::ALL {
            let mut step = Step::new(workload, 2, &device);
            // The second run of a step that learns starts where the first has ended.
            for _ in 0..2 {
                for (i, tensor) in step.run().iter().enumerate() {
                    let values = tensor.array().to_f64();
                    assert!(values.iter().all(|v| v.is_finite()), "{workload}: result {i}");
                    assert!(values.iter().any(|v| *v != 0.0), "{workload}: result {i}");
                }
            }
        }
    }

    #[test]
    fn work_is_counted_per_image_and_pass() {
        let flops = |name: &str, batch| Step::new(name.parse().unwrap(), batch, &cpu()).flops();
        assert_eq!(flops("forward:conv-small", 3), 2 * 14_676_480 * 3);
        assert_eq!(flops("train:conv-small", 3), 3 * flops("forward:conv-small", 3));
        assert_eq!(flops("ssl-step:conv-small", 3), 21 * flops("forward:conv-small", 3));
        assert_eq!(flops("input-grad:resnet18-cifar", 2), 2 * 2 * 555_417_600 * 2);
    }

    #[test]
    fn a_step_that_learns_changes_its_results_the_same_way_for_any_number_of_threads() {
        let run = |threads| {
            let device = Cpu { threads, ..Cpu::default() }.open();
            let mut step = Step::new("ssl-step:conv-small".parse().unwrap(), 4, &device);
            [step.run(), step.run()].map(|run| run.iter().map(|t| t.to_vec::<f32>()).collect::<Vec<_>>())
        };
        let [first, second] = run(1);
        assert_ne!(first, second);
        assert_eq!(run(3), [first, second]);
    }
}
