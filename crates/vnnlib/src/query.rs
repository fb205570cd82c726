//! Queries: a box of inputs and the outputs that would refute a claim.

/// A query about one network: is there an input in a box whose output satisfies one of several conjunctions?
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The version of the language: 1.0 or 2.0.
    pub version: Version,
    /// The name of the network; `f` where the language has none.
    pub network: String,
    /// The input variable.
    pub input: Variable,
    /// The output variable.
    pub output: Variable,
    /// Least and largest value of each element of the input, in the order of the ONNX file.
    pub bounds: Vec<(f64, f64)>,
    /// What is sought: one of these, in each of which all comparisons hold.
    pub cases: Vec<Vec<Comparison>>,
}

/// A version of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 1.0, as solvers read it.
    One,
    /// 2.0
    Two,
}

/// A declared variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// The type of its elements: `float32`, `real`, …
    pub element: String,
    /// Its extents.
    pub shape: Vec<usize>,
}

/// `Σ inputs + Σ outputs + constant ≤ 0`, or `< 0`.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// `(element, factor)` of the input, by element.
    pub inputs: Vec<(usize, f64)>,
    /// `(element, factor)` of the output, by element.
    pub outputs: Vec<(usize, f64)>,
    /// What is added.
    pub constant: f64,
    /// Whether equality does not satisfy it.
    pub strict: bool,
}

impl Variable {
    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Comparison {
    /// The left side at an input `x` and an output `y`.
    pub fn value(&self, x: &[f64], y: &[f64]) -> f64 {
        let sum = |terms: &[(usize, f64)], of: &[f64]| -> f64 {
            terms.iter().map(|&(i, factor)| factor * of[i]).sum()
        };
        sum(&self.inputs, x) + sum(&self.outputs, y) + self.constant
    }

    /// Whether it holds there.
    pub fn holds(&self, x: &[f64], y: &[f64]) -> bool {
        let value = self.value(x, y);
        value < 0.0 || value == 0.0 && !self.strict
    }
}

impl Query {
    /// Whether an input `x` with the output `y` answers the query.
    pub fn is_satisfied(&self, x: &[f64], y: &[f64]) -> bool {
        let inside =
            x.len() == self.bounds.len() && x.iter().zip(&self.bounds).all(|(x, (l, u))| l <= x && x <= u);
        inside && self.cases.iter().any(|case| case.iter().all(|comparison| comparison.holds(x, y)))
    }
}
