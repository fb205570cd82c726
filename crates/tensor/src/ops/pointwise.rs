//! Elementwise ops. The derivative of each function is one line of `unary_adjoint` or of its own method.

use super::{same_dtype, wrap};
use crate::array::DType;
use crate::autodiff::{Pullback, Saved};
use crate::backend::{Binary, Unary};
use crate::op::Op;
use crate::tensor::Tensor;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};
use std::ops::{Add, Div, Mul, Neg, Sub};

impl Tensor {
    /// −x
    pub fn neg(&self) -> Tensor {
        self.unary(Unary::Neg)
    }

    /// eˣ
    pub fn exp(&self) -> Tensor {
        self.unary(Unary::Exp)
    }

    /// The natural logarithm.
    pub fn log(&self) -> Tensor {
        self.unary(Unary::Log)
    }

    /// The square root. Its derivative at 0 is infinite.
    pub fn sqrt(&self) -> Tensor {
        self.unary(Unary::Sqrt)
    }

    /// x²
    pub fn square(&self) -> Tensor {
        self * self
    }

    /// xᵖ for a constant p.
    pub fn powf(&self, p: f64) -> Tensor {
        self.unary(Unary::Powf(p))
    }

    /// max(x, 0); the derivative at 0 is 0.
    pub fn relu(&self) -> Tensor {
        self.unary(Unary::Relu)
    }

    /// `max(self + other, 0)` of one shape, in one pass over memory: where a residual block ends. Recorded as the sum and
    /// the ReLU that it is.
    #[track_caller]
    pub fn add_relu(&self, other: &Tensor) -> Tensor {
        same_dtype("add_relu", self, other);
        let shapes = (self.shape(), other.shape());
        assert_eq!(shapes.0, shapes.1, "add_relu: shapes {:?} and {:?}", shapes.0, shapes.1);
        let y = wrap(self, *self.shape(), self.dtype(), self.device().add_relu(self.array(), other.array()));
        // The node of the sum keeps no value, so that it may be given the one that comes after it.
        let sum = Tensor::record(Op::Binary(Binary::Add), y.clone(), &[self, other], |p| {
            vec![p.need(0, || p.dy().clone()), p.need(1, || p.dy().clone())]
        });
        Tensor::record_keeping_output(Op::Unary(Unary::Relu), y, &[&sum], |p| {
            vec![p.need(0, || p.masked(&p.y().detach()))]
        })
    }

    /// x·Φ(x) with the exact normal distribution function.
    pub fn gelu(&self) -> Tensor {
        self.unary(Unary::Gelu)
    }

    /// x·σ(x)
    pub fn silu(&self) -> Tensor {
        self.unary(Unary::Silu)
    }

    /// The hyperbolic tangent.
    pub fn tanh(&self) -> Tensor {
        self.unary(Unary::Tanh)
    }

    /// 1 / (1 + e⁻ˣ)
    pub fn sigmoid(&self) -> Tensor {
        self.unary(Unary::Sigmoid)
    }

    /// The error function.
    pub fn erf(&self) -> Tensor {
        self.unary(Unary::Erf)
    }

    /// −1, 0 or 1; the derivative is 0.
    pub fn sign(&self) -> Tensor {
        self.unary(Unary::Sign)
    }

    /// |x|; the derivative at 0 is 0.
    pub fn abs(&self) -> Tensor {
        self.unary(Unary::Abs)
    }

    /// The nearest value of `[lo, hi]`; the derivative is 1 inside (ends included) and 0 outside.
    pub fn clamp(&self, lo: f64, hi: f64) -> Tensor {
        self.unary(Unary::Clamp(lo, hi))
    }

    /// x + c
    pub fn add_scalar(&self, c: f64) -> Tensor {
        self.unary(Unary::AddScalar(c))
    }

    /// c·x
    pub fn mul_scalar(&self, c: f64) -> Tensor {
        self.unary(Unary::MulScalar(c))
    }

    /// The larger of two elements; on a tie the gradient goes to `self`.
    #[track_caller]
    pub fn maximum(&self, other: &Tensor) -> Tensor {
        self.binary(other, Binary::Max)
    }

    /// The smaller of two elements; on a tie the gradient goes to `self`.
    #[track_caller]
    pub fn minimum(&self, other: &Tensor) -> Tensor {
        self.binary(other, Binary::Min)
    }

    /// 1 where `self > other`, else 0.
    #[track_caller]
    pub fn greater(&self, other: &Tensor) -> Tensor {
        self.binary(other, Binary::Greater)
    }

    /// 1 where `self ≥ other`, else 0.
    #[track_caller]
    pub fn greater_equal(&self, other: &Tensor) -> Tensor {
        self.binary(other, Binary::GreaterEqual)
    }

    /// 1 where both are equal, else 0.
    #[track_caller]
    pub fn equal(&self, other: &Tensor) -> Tensor {
        self.binary(other, Binary::Equal)
    }

    /// `self` where `gate > 0`, else 0; no gradient passes to the gate.
    #[track_caller]
    pub fn mask(&self, gate: &Tensor) -> Tensor {
        self.binary(gate, Binary::Mask)
    }

    /// `a` where `self` is not zero, else `b`; all of one shape.
    #[track_caller]
    pub fn select(&self, a: &Tensor, b: &Tensor) -> Tensor {
        same_dtype("select", a, b);
        assert!(
            self.shape() == a.shape() && a.shape() == b.shape(),
            "select: condition {:?}, operands {:?} and {:?}",
            self.shape(),
            a.shape(),
            b.shape()
        );
        let y = wrap(a, *a.shape(), a.dtype(), a.device().select(self.array(), a.array(), b.array()));
        let condition = Saved::new(&self.detach());
        Tensor::record(Op::Select, y, &[self, a, b], move |p| {
            let c = p.get(&condition);
            vec![
                None,
                p.need(1, || c.select(p.dy(), &p.dy().zeros_like())),
                p.need(2, || c.select(&p.dy().zeros_like(), p.dy())),
            ]
        })
    }

    /// The same values in another element type.
    pub fn cast(&self, dtype: DType) -> Tensor {
        if dtype == self.dtype() {
            return self.clone();
        }
        let from = self.dtype();
        Tensor::record(Op::Cast(dtype), self.array().cast(dtype), &[self], move |p| {
            vec![p.need(0, || p.dy().cast(from))]
        })
    }

    fn unary(&self, op: Unary) -> Tensor {
        let y = wrap(self, *self.shape(), self.dtype(), self.device().unary(op, self.array()));
        match op {
            // Linear: the adjoint reads nothing.
            Unary::Neg | Unary::AddScalar(_) | Unary::MulScalar(_) | Unary::Sign => {
                Tensor::record(Op::Unary(op), y, &[self], move |p| vec![linear_adjoint(op, p.dy())])
            }
            // The derivative is a function of the output, which the next op keeps anyway.
            Unary::Exp | Unary::Sqrt | Unary::Relu | Unary::Tanh | Unary::Sigmoid => {
                Tensor::record_keeping_output(Op::Unary(op), y, &[self], move |p| {
                    vec![Some(output_adjoint(op, p.dy(), &p.y()))]
                })
            }
            _ => {
                let x = Saved::new(self);
                Tensor::record(Op::Unary(op), y, &[self], move |p| {
                    vec![Some(input_adjoint(op, p.dy(), &p.get(&x)))]
                })
            }
        }
    }

    #[track_caller]
    fn binary(&self, other: &Tensor, op: Binary) -> Tensor {
        let name = Op::Binary(op).name();
        same_dtype(name, self, other);
        let Some(shape) = self.shape().broadcast(other.shape()) else {
            panic!("{name}: shapes {:?} and {:?} do not broadcast", self.shape(), other.shape());
        };
        let y =
            wrap(self, shape, self.dtype(), self.device().binary(op, self.array(), other.array(), &shape));
        let (sa, sb) = (*self.shape(), *other.shape());
        let record = |vjp: fn(&Pullback<'_>, &Tensor, &Tensor) -> [Option<Tensor>; 2]| {
            let (a, b) = (Saved::new(self), Saved::new(other));
            Tensor::record(Op::Binary(op), y.clone(), &[self, other], move |p| {
                let [da, db] = vjp(p, &p.get(&a), &p.get(&b));
                vec![da.map(|g| g.sum_to(sa)), db.map(|g| g.sum_to(sb))]
            })
        };
        match op {
            Binary::Add => Tensor::record(Op::Binary(op), y, &[self, other], move |p| {
                vec![p.need(0, || p.dy().sum_to(sa)), p.need(1, || p.dy().sum_to(sb))]
            }),
            Binary::Sub => Tensor::record(Op::Binary(op), y, &[self, other], move |p| {
                vec![p.need(0, || p.dy().sum_to(sa)), p.need(1, || p.dy().neg().sum_to(sb))]
            }),
            Binary::Mul => record(|p, a, b| [p.need(0, || p.dy() * b), p.need(1, || p.dy() * a)]),
            Binary::Div => record(|p, a, b| {
                [p.need(0, || p.dy() / b), p.need(1, || (&(p.dy() * a) / &b.square()).neg())]
            }),
            Binary::Max => record(|p, a, b| shares(p, &a.greater_equal(b).detach())),
            Binary::Min => record(|p, a, b| shares(p, &b.greater_equal(a).detach())),
            Binary::Mask => record(|p, _, gate| [p.need(0, || p.dy().mask(&gate.detach())), None]),
            Binary::Greater | Binary::GreaterEqual | Binary::Equal => {
                Tensor::record(Op::Binary(op), y, &[self, other], |_| vec![None, None])
            }
        }
    }
}

/// The gradient split by who won: `first` is 1 where the left operand did.
fn shares(p: &Pullback<'_>, first: &Tensor) -> [Option<Tensor>; 2] {
    [p.need(0, || p.dy() * first), p.need(1, || p.dy() - &(p.dy() * first))]
}

fn linear_adjoint(op: Unary, dy: &Tensor) -> Option<Tensor> {
    match op {
        Unary::Neg => Some(dy.neg()),
        Unary::AddScalar(_) => Some(dy.clone()),
        Unary::MulScalar(c) => Some(dy.mul_scalar(c)),
        _ => None,
    }
}

fn output_adjoint(op: Unary, dy: &Tensor, y: &Tensor) -> Tensor {
    match op {
        Unary::Exp => dy * y,
        Unary::Sqrt => &dy.mul_scalar(0.5) / y,
        Unary::Relu => dy.mask(&y.detach()),
        Unary::Tanh => dy - &(dy * &y.square()),
        Unary::Sigmoid => dy * &(y - &y.square()),
        _ => unreachable!("{op:?} is not differentiated through its output"),
    }
}

fn input_adjoint(op: Unary, dy: &Tensor, x: &Tensor) -> Tensor {
    match op {
        Unary::Log => dy / x,
        Unary::Powf(p) => &dy.mul_scalar(p) * &x.powf(p - 1.0),
        Unary::Erf => dy * &x.square().neg().exp().mul_scalar(FRAC_2_SQRT_PI),
        Unary::Gelu => {
            // Φ(x) + x·φ(x)
            let cdf = x.mul_scalar(FRAC_1_SQRT_2).erf().add_scalar(1.0).mul_scalar(0.5);
            let density = x.square().mul_scalar(-0.5).exp().mul_scalar(0.5 * FRAC_1_SQRT_2 * FRAC_2_SQRT_PI);
            dy * &(&cdf + &(x * &density))
        }
        Unary::Silu => {
            // σ + x·σ·(1 − σ)
            let s = x.sigmoid();
            dy * &(&s + &(x * &(&s - &s.square())))
        }
        Unary::Abs => dy * &x.sign(),
        Unary::Clamp(lo, hi) => {
            let x = x.detach();
            dy * &x.equal(&x.clamp(lo, hi))
        }
        _ => unreachable!("{op:?} is not differentiated through its input"),
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, $op:ident, $scalar:expr) => {
        impl $trait<&Tensor> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: &Tensor) -> Tensor {
                self.binary(other, Binary::$op)
            }
        }
        impl $trait<f64> for &Tensor {
            type Output = Tensor;
            fn $method(self, c: f64) -> Tensor {
                let scalar: fn(&Tensor, f64) -> Tensor = $scalar;
                scalar(self, c)
            }
        }
    };
}
operator!(Add, add, Add, |x, c| x.add_scalar(c));
operator!(Sub, sub, Sub, |x, c| x.add_scalar(-c));
operator!(Mul, mul, Mul, |x, c| x.mul_scalar(c));
operator!(Div, div, Div, |x, c| x.mul_scalar(1.0 / c));

impl Neg for &Tensor {
    type Output = Tensor;
    fn neg(self) -> Tensor {
        self.unary(Unary::Neg)
    }
}
