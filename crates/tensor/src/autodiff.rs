//! Reverse-mode differentiation: gradients with respect to chosen tensors, and gradients of gradients.

use crate::array::Array;
use crate::graph::{Node, topological_order};
use crate::tensor::Tensor;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

/// The gradients of the scalar `y` in each of `wrt`, as constants; zeros where `y` does not depend.
///
/// Only nodes on a path from `wrt` to `y` do any work: attacking the input of a frozen network
/// computes no weight gradient.
///
/// # Panics
/// If `y` has more than one element.
#[track_caller]
pub fn grad(y: &Tensor, wrt: &[&Tensor]) -> Vec<Tensor> {
    vjp(y, &one(y), wrt, Recording::Off)
}

/// As [`grad`], of a value that nobody needs any more: what its record holds is freed on the way, so that the gradients
/// come into the room of the activations. Drop what else of the record you hold (embeddings, parts of the loss) before.
#[track_caller]
pub fn backward(y: Tensor, wrt: &[&Tensor]) -> Vec<Tensor> {
    let dy = one(&y);
    let nodes = topological_order(&y);
    drop(y);
    walk(nodes, &dy, wrt, Recording::Off)
}

/// As [`grad`], with results that can be differentiated again.
#[track_caller]
pub fn grad_recorded(y: &Tensor, wrt: &[&Tensor]) -> Vec<Tensor> {
    vjp(y, &one(y), wrt, Recording::On)
}

/// The value of `f` at `x` and its gradient there.
///
/// ```
/// use tarrl_tensor::{cpu, value_and_grad, Tensor};
/// let x = Tensor::new(&cpu(), [2], &[1.0f32, 2.0]);
/// let (y, dy) = value_and_grad(&x, |x| x.square().sum_all());
/// assert_eq!(y.item(), 5.0);
/// assert_eq!(dy.to_vec::<f32>(), [2.0, 4.0]);
/// ```
#[track_caller]
pub fn value_and_grad(x: &Tensor, f: impl Fn(&Tensor) -> Tensor) -> (Tensor, Tensor) {
    let x = x.detach().requires_grad();
    let y = f(&x);
    let value = y.detach();
    (value, backward(y, &[&x]).remove(0))
}

/// Whether a pull-back is itself recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    /// The results are constants.
    Off,
    /// The results depend on everything they were computed from.
    On,
}

/// The product of `dy` with the Jacobian of `y` in each of `wrt` (all of `wrt`'s shapes).
///
/// # Panics
/// If `dy` has not the shape of `y`.
#[track_caller]
pub fn vjp(y: &Tensor, dy: &Tensor, wrt: &[&Tensor], recording: Recording) -> Vec<Tensor> {
    assert_eq!(y.shape(), dy.shape(), "vjp: output {:?} but gradient {:?}", y.shape(), dy.shape());
    walk(topological_order(y), dy, wrt, recording)
}

/// The backward pass over a history, whose nodes it lets go as soon as they are done.
fn walk(nodes: Vec<Arc<Node>>, dy: &Tensor, wrt: &[&Tensor], recording: Recording) -> Vec<Tensor> {
    let position: HashMap<*const Node, usize> =
        nodes.iter().enumerate().map(|(i, node)| (Arc::as_ptr(node), i)).collect();
    let place = |node: &Arc<Node>| position.get(&Arc::as_ptr(node)).copied();
    let targets: Vec<Option<usize>> = wrt.iter().map(|t| t.node().and_then(place)).collect();

    let mut on_path = vec![false; nodes.len()];
    for &target in targets.iter().flatten() {
        on_path[target] = true;
    }
    for i in 0..nodes.len() {
        on_path[i] |= operands(&nodes[i], &place).any(|j| j.is_some_and(|j| on_path[j]));
    }

    let mut gradients: Vec<Option<Sum>> = vec![None; nodes.len()];
    if let Some(last) = gradients.last_mut() {
        *last = Some(Sum::One(dy.clone()));
    }
    let mut nodes = nodes;
    while let Some(node) = nodes.pop() {
        let i = nodes.len();
        let Some(vjp) = node.vjp().filter(|_| on_path[i]) else { continue };
        let keep = targets.contains(&Some(i));
        let Some(dy) = (if keep { gradients[i].clone() } else { gradients[i].take() }) else { continue };
        let needed: Vec<bool> = operands(&node, &place).map(|j| j.is_some_and(|j| on_path[j])).collect();
        if !needed.contains(&true) {
            continue;
        }
        let (dy, terms) = (OnceCell::new(), RefCell::new(Some(dy)));
        let pulled = vjp(&Pullback { node: &node, dy, terms, needed: &needed, recording });
        for (j, g) in operands(&node, &place).zip(pulled) {
            if let (Some(j), Some(g)) = (j.filter(|&j| on_path[j]), g) {
                debug_assert_eq!(g.shape(), nodes[j].shape(), "adjoint of {}", node.op().name());
                gradients[j] = Some(match gradients[j].take() {
                    Some(sum) => Sum::Two(sum.total(), g),
                    None => Sum::One(g),
                });
            }
        }
    }
    let found = targets.into_iter().map(|target| target.and_then(|i| gradients[i].take()).map(Sum::total));
    wrt.iter().zip(found).map(|(t, g)| g.unwrap_or_else(|| t.zeros_like())).collect()
}

/// The gradient of a value from all its users; the last addition waits for who reads it.
#[derive(Clone)]
enum Sum {
    One(Tensor),
    Two(Tensor, Tensor),
}

impl Sum {
    fn total(self) -> Tensor {
        match self {
            Sum::One(dy) => dy,
            Sum::Two(a, b) => &a + &b,
        }
    }
}

/// An operand that an adjoint will read.
#[derive(Clone)]
pub struct Saved(Tensor);

impl Saved {
    /// Remembers an operand of the op that is being recorded.
    pub fn new(operand: &Tensor) -> Self {
        Saved(operand.clone())
    }
}

/// What an adjoint sees: the gradient of its output, its saved operands, and which results are needed.
pub struct Pullback<'a> {
    node: &'a Arc<Node>,
    dy: OnceCell<Tensor>,
    /// Taken when `dy` is made of it.
    terms: RefCell<Option<Sum>>,
    needed: &'a [bool],
    recording: Recording,
}

impl Pullback<'_> {
    /// The gradient of the output, of the output's shape.
    pub fn dy(&self) -> &Tensor {
        self.dy.get_or_init(|| self.terms.take().expect("taken once").total())
    }

    /// The gradient of the output, or two terms of it that wait to be added.
    pub fn terms(&self) -> (Tensor, Option<Tensor>) {
        match &*self.terms.borrow() {
            Some(Sum::Two(a, b)) => return (a.clone(), Some(b.clone())),
            Some(Sum::One(dy)) => return (dy.clone(), None),
            None => {}
        }
        (self.dy().clone(), None)
    }

    /// The gradient of the output where `gate` is above zero, elsewhere zero: the gradient behind a ReLU whose value is
    /// `gate`, in one pass with the addition of two terms where the device can.
    pub fn masked(&self, gate: &Tensor) -> Tensor {
        if !self.is_recorded()
            && let (a, Some(b)) = self.terms()
            && let Some(sum) = a.device().add_mask(a.array(), b.array(), gate.array())
        {
            return Array::wrap(a.device(), *a.shape(), a.dtype(), sum).into();
        }
        self.dy().mask(gate)
    }

    /// A saved operand: with its history if this pull-back is recorded, else as a constant.
    pub fn get(&self, saved: &Saved) -> Tensor {
        match self.recording {
            Recording::On => saved.0.clone(),
            Recording::Off => saved.0.detach(),
        }
    }

    /// The output of the op.
    ///
    /// # Panics
    /// If the op was not recorded with [`Tensor::record_keeping_output`].
    pub fn y(&self) -> Tensor {
        let y: Array = self.node.output().expect("the op was recorded without its output").clone();
        match self.recording {
            Recording::On => Tensor::with_node(y, self.node.clone()),
            Recording::Off => y.into(),
        }
    }

    /// Whether the gradient of operand `i` is needed.
    pub fn needs(&self, i: usize) -> bool {
        self.needed[i]
    }

    /// `f()` if the gradient of operand `i` is needed.
    pub fn need(&self, i: usize, f: impl FnOnce() -> Tensor) -> Option<Tensor> {
        self.needed[i].then(f)
    }

    /// Whether the results will be differentiated again, so that fused kernels without an adjoint of
    /// their own must not be used.
    pub fn is_recorded(&self) -> bool {
        self.recording == Recording::On
    }
}

/// The positions of a node's operands in the history; `None` for constants.
fn operands<'a>(
    node: &'a Arc<Node>,
    place: &'a impl Fn(&Arc<Node>) -> Option<usize>,
) -> impl Iterator<Item = Option<usize>> + 'a {
    node.edges().iter().map(move |edge| edge.node().and_then(place))
}

#[track_caller]
fn one(y: &Tensor) -> Tensor {
    assert_eq!(y.array().len(), 1, "a gradient needs a scalar, got shape {:?}", y.shape());
    Tensor::full(y.device(), *y.shape(), y.dtype(), 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu;

    fn scalar(x: f64) -> Tensor {
        Tensor::new(&cpu(), [], &[x])
    }

    #[test]
    fn derivatives_nest_to_the_third() {
        let x = scalar(1.5).requires_grad();
        let y = x.powf(4.0);
        let d1 = grad_recorded(&y, &[&x]).remove(0);
        let d2 = grad_recorded(&d1, &[&x]).remove(0);
        let d3 = grad(&d2, &[&x]).remove(0);
        assert!((d1.item() - 4.0 * 1.5f64.powi(3)).abs() < 1e-12);
        assert!((d2.item() - 12.0 * 1.5f64.powi(2)).abs() < 1e-12);
        assert!((d3.item() - 24.0 * 1.5).abs() < 1e-12);
        assert!(!d3.tracks_grad());
    }

    #[test]
    fn tracking_a_tracked_value_keeps_its_history() {
        let x = scalar(2.0).requires_grad();
        let inner = x.square().requires_grad();
        let y = inner.square();
        let d_inner = grad_recorded(&y, &[&inner]).remove(0); // 2x²
        assert_eq!(d_inner.item(), 8.0);
        assert_eq!(grad(&d_inner, &[&x]).remove(0).item(), 8.0); // d(2x²)/dx = 4x
        assert_eq!(grad(&y, &[&x]).remove(0).item(), 32.0);
    }

    #[test]
    fn independent_tensors_have_zero_gradient() {
        let (x, z) = (scalar(2.0).requires_grad(), scalar(3.0).requires_grad());
        let y = x.square();
        assert_eq!(grad(&y, &[&z, &x]).iter().map(Tensor::item).collect::<Vec<_>>(), [0.0, 4.0]);
        assert_eq!(grad(&scalar(1.0), &[&x]).remove(0).item(), 0.0);
    }

    #[test]
    fn a_frozen_operand_costs_nothing() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let calls = Arc::new(AtomicUsize::new(0));
        let seen = calls.clone();
        let (x, w) = (scalar(2.0).requires_grad(), scalar(5.0).requires_grad());
        let product = &x * &w;
        let y =
            Tensor::record(crate::Op::Custom("probe"), product.array().clone(), &[&product, &w], move |p| {
                vec![
                    p.need(0, || p.dy().clone()),
                    p.need(1, || {
                        seen.fetch_add(1, Ordering::SeqCst);
                        p.dy().clone()
                    }),
                ]
            });
        assert_eq!(grad(&y, &[&x]).remove(0).item(), 5.0);
        assert_eq!(calls.load(Ordering::SeqCst), 0, "the gradient of w was computed though nobody asked");
        grad(&y, &[&w]);
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_gradient_through_a_shared_value_is_summed_once() {
        let x = scalar(3.0).requires_grad();
        let s = &x + &x;
        let y = &s * &s; // 4x²
        assert_eq!(grad(&y, &[&x]).remove(0).item(), 24.0);
        assert_eq!(grad(&y, &[&s, &x]).iter().map(Tensor::item).collect::<Vec<_>>(), [12.0, 24.0]);
    }

    #[test]
    fn a_gradient_taken_once_is_the_same_and_frees_on_the_way() {
        let x = scalar(1.5).requires_grad();
        let witness = Arc::new(());
        let (alive, seen) = (Arc::downgrade(&witness), Arc::new(std::sync::Mutex::new(Vec::new())));
        let probe = |input: &Tensor, held: Option<Arc<()>>| {
            let (alive, seen) = (alive.clone(), seen.clone());
            Tensor::record(crate::Op::Custom("probe"), input.array().clone(), &[input], move |p| {
                seen.lock().unwrap().push((held.is_some(), alive.strong_count()));
                vec![Some(p.dy().clone())]
            })
        };
        let y = probe(&probe(&x.square(), None), Some(witness)).powf(3.0);
        let whole = grad(&y, &[&x]).remove(0).item();
        seen.lock().unwrap().clear();
        let once = backward(y, &[&x]).remove(0).item();
        assert_eq!((whole, once), (6.0 * 1.5f64.powi(5), whole));
        // The later op had its witness; when the earlier one was reached, nothing of the later one was left.
        assert_eq!(*seen.lock().unwrap(), [(true, 1), (false, 0)]);
    }

    #[test]
    fn a_long_chain_drops_without_recursion() {
        let mut x = scalar(0.0).requires_grad();
        for _ in 0..300_000 {
            x = x.add_scalar(1.0);
        }
        assert_eq!(x.item(), 300_000.0);
        drop(x);
    }
}
