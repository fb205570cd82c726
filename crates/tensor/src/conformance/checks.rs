//! Checks of one case: value, gradients, second order, adjoint identity.

use super::case::{Case, Host, rounded, upload};
use super::report::Report;
use crate::array::{Array, DType};
use crate::autodiff::{Recording, grad, grad_recorded, vjp};
use crate::backend::Device;
use crate::cpu::{Arithmetic, Cpu};
use crate::graph::topological_order;
use crate::key::Key;
use crate::tensor::Tensor;

/// Step of central differences in f64: the truncation error is about its square.
const STEP: f64 = 1e-5;
/// What a derivative may differ from central differences, relative to one plus its size.
const GRADIENT: f64 = 1e-6;

pub(super) fn check(case: &Case, device: &Device, dtype: DType, report: &mut Report) {
    let mut check = Check { case, device, report };
    check.value(dtype);
    if check.varying().is_empty() {
        return;
    }
    check.gradient_in(dtype);
    check.adjoint_identity(dtype);
    if dtype == DType::F64 {
        check.gradient();
        check.second_order();
    }
}

struct Check<'a> {
    case: &'a Case,
    device: &'a Device,
    report: &'a mut Report,
}

impl Check<'_> {
    fn value(&mut self, dtype: DType) {
        let hosts = self.case.hosts(dtype);
        let y = (self.case.op)(&self.case.tensors(self.device, dtype));
        let expected = (self.case.reference)(&hosts);
        if y.shape()[..] != *expected.shape() {
            let line = format!("{}: shape {:?}, expected {:?}", self.case.name, y.shape(), expected.shape());
            return self.report.failures.push(line);
        }
        let expected: Vec<f64> = expected.iter().copied().collect();
        let scale = expected.iter().fold(1.0f64, |top, v| top.max(v.abs()));
        self.compare("value", &y.array().to_f64(), &expected, self.rounding(dtype) * scale);
    }

    /// The gradient in `dtype` on this device against the same in f64 on the reference device.
    fn gradient_in(&mut self, dtype: DType) {
        self.cover(&(self.case.op)(&self.tracked(self.device, dtype, dtype)));
        let reference = Cpu { threads: 1, arithmetic: Arithmetic::Direct }.open();
        let here = self.pull(self.device, dtype, dtype);
        let there = self.pull(&reference, dtype, DType::F64);
        for (here, there) in here.iter().zip(&there) {
            let there = there.array().to_f64();
            let scale = there.iter().fold(1.0f64, |top, v| top.max(v.abs()));
            self.compare(
                "gradient in its own type",
                &here.array().to_f64(),
                &there,
                4.0 * self.rounding(dtype) * scale,
            );
        }
    }

    /// `⟨A x, g⟩ = ⟨x, Aᵀ g⟩` in every input in which the op is linear.
    fn adjoint_identity(&mut self, dtype: DType) {
        for &i in &self.case.linear_in {
            let mut inputs = self.case.tensors(self.device, dtype);
            inputs[i] = inputs[i].requires_grad();
            let y = (self.case.op)(&inputs);
            let g = self.weight(&y, self.device, dtype);
            let pulled = vjp(&y, &g, &[&inputs[i]], Recording::Off).remove(0);
            let dot = |a: &Tensor, b: &Tensor| -> (f64, f64) {
                let terms = a.array().to_f64().into_iter().zip(b.array().to_f64()).map(|(a, b)| a * b);
                terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()))
            };
            let ((left, size), (right, _)) = (dot(&y, &g), dot(&inputs[i], &pulled));
            self.compare("adjoint identity", &[left], &[right], 2.0 * self.rounding(dtype) * (1.0 + size));
        }
    }

    /// Plain and recorded gradients in f64 against central differences.
    fn gradient(&mut self) {
        let numeric = self.differences(|inputs| {
            let y = (self.case.op)(inputs);
            (&y * &self.weight(&y, self.device, DType::F64)).sum_all().item()
        });
        let plain = self.pull(self.device, DType::F64, DType::F64);
        let inputs = self.tracked(self.device, DType::F64, DType::F64);
        let loss = self.loss(&inputs, self.device);
        self.cover(&loss);
        let varying = self.varying();
        let wrt: Vec<&Tensor> = varying.iter().map(|&i| &inputs[i]).collect();
        let recorded = grad_recorded(&loss, &wrt);
        for (((plain, recorded), numeric), &i) in plain.iter().zip(&recorded).zip(&numeric).zip(&varying) {
            self.cover(recorded);
            self.relative(&format!("gradient in input {i}"), plain, numeric);
            self.relative(&format!("recorded gradient in input {i}"), recorded, numeric);
        }
    }

    /// The gradient of a weighted gradient against central differences of the gradient.
    fn second_order(&mut self) {
        let numeric = self.differences(|inputs| {
            let inputs: Vec<Tensor> = inputs.iter().map(Tensor::requires_grad).collect();
            self.weighted_gradient(&inputs).item()
        });
        let inputs = self.tracked(self.device, DType::F64, DType::F64);
        let scalar = self.weighted_gradient(&inputs);
        self.cover(&scalar);
        let varying = self.varying();
        let wrt: Vec<&Tensor> = varying.iter().map(|&i| &inputs[i]).collect();
        for ((second, numeric), &i) in grad(&scalar, &wrt).iter().zip(&numeric).zip(&varying) {
            self.relative(&format!("second derivative in input {i}"), second, numeric);
        }
    }

    fn weighted_gradient(&self, inputs: &[Tensor]) -> Tensor {
        let varying = self.varying();
        let wrt: Vec<&Tensor> = varying.iter().map(|&i| &inputs[i]).collect();
        let gradients = grad_recorded(&self.loss(inputs, self.device), &wrt);
        let weighted = gradients.iter().map(|g| (g * &self.weight(g, self.device, DType::F64)).sum_all());
        weighted.reduce(|a, b| &a + &b).expect("at least one input varies")
    }

    fn loss(&self, inputs: &[Tensor], device: &Device) -> Tensor {
        let y = (self.case.op)(inputs);
        (&y * &self.weight(&y, device, DType::F64)).sum_all()
    }

    fn pull(&self, device: &Device, drawn: DType, dtype: DType) -> Vec<Tensor> {
        let inputs = self.tracked(device, drawn, dtype);
        let y = (self.case.op)(&inputs);
        let wrt: Vec<&Tensor> = self.varying().into_iter().map(|i| &inputs[i]).collect();
        vjp(&y, &self.weight(&y, device, drawn), &wrt, Recording::Off)
    }

    fn tracked(&self, device: &Device, drawn: DType, dtype: DType) -> Vec<Tensor> {
        let hosts = self.case.hosts(drawn);
        let tensors = hosts.iter().map(|x| upload(device, x, dtype));
        tensors
            .zip(&self.case.inputs)
            .map(|(t, input)| if input.varies { t.requires_grad() } else { t })
            .collect()
    }

    fn varying(&self) -> Vec<usize> {
        (0..self.case.inputs.len()).filter(|&i| self.case.inputs[i].varies).collect()
    }

    /// A fixed random weight of the shape of `y`, the same numbers for every device and type.
    fn weight(&self, y: &Tensor, device: &Device, drawn: DType) -> Tensor {
        let mut stream = Key::new(0xbeef).fold(self.case.name).stream();
        let mut draw = || rounded(stream.uniform(-1.0, 1.0), drawn);
        let values: Vec<f64> = (0..y.array().len()).map(|_| draw()).collect();
        Tensor::from(Array::new(device, *y.shape(), &values)).cast(y.dtype())
    }

    /// Central differences of a scalar function in every element of every varying input.
    fn differences(&self, f: impl Fn(&[Tensor]) -> f64) -> Vec<Vec<f64>> {
        let hosts = self.case.hosts(DType::F64);
        let at =
            |hosts: &[Host]| f(&hosts.iter().map(|x| upload(self.device, x, DType::F64)).collect::<Vec<_>>());
        let element = |i: usize, e: usize| {
            let mut moved = hosts.clone();
            let slot = |moved: &mut [Host], v: f64| moved[i].as_slice_mut().expect("row-major")[e] = v;
            let x = hosts[i].as_slice().expect("row-major")[e];
            slot(&mut moved, x + STEP);
            let up = at(&moved);
            slot(&mut moved, x - STEP);
            (up - at(&moved)) / (2.0 * STEP)
        };
        self.varying().into_iter().map(|i| (0..hosts[i].len()).map(|e| element(i, e)).collect()).collect()
    }

    fn relative(&mut self, what: &str, found: &Tensor, expected: &[f64]) {
        let scale = expected.iter().fold(1.0f64, |top, v| top.max(v.abs()));
        self.compare(what, &found.array().to_f64(), expected, GRADIENT * scale);
    }

    fn rounding(&self, dtype: DType) -> f64 {
        let sums = |eps: f64| eps * (32.0 + 4.0 * self.case.terms as f64);
        match dtype {
            // Arithmetic is in f32; a value that is written down is rounded to 8 bits.
            DType::Bf16 => sums(f64::from(f32::EPSILON)) + 2f64.powi(-8),
            DType::F32 => sums(f64::from(f32::EPSILON)),
            DType::F64 | DType::U32 => sums(f64::EPSILON),
        }
    }

    fn cover(&mut self, y: &Tensor) {
        self.report.covered.extend(topological_order(y).iter().map(|node| node.op().name()));
    }

    fn compare(&mut self, what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
        self.report.checks += 1;
        let worst = found
            .iter()
            .zip(expected)
            .enumerate()
            .filter(|(_, (a, b))| (*a - *b).abs() > tolerance || (*a - *b).is_nan())
            .max_by(|(_, (a, b)), (_, (c, d))| (*a - *b).abs().total_cmp(&(*c - *d).abs()));
        if found.len() != expected.len() {
            let line =
                format!("{}: {what}: {} elements, expected {}", self.case.name, found.len(), expected.len());
            self.report.failures.push(line);
        } else if let Some((at, (a, b))) = worst {
            let line = format!(
                "{}: {what}: element {at} is {a:e}, expected {b:e} within {tolerance:e}",
                self.case.name
            );
            self.report.failures.push(line);
        }
    }
}
