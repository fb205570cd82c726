//! Queries as text, in both versions of the language.

use crate::query::{Comparison, Query, Variable, Version};
use std::fmt::Write;

/// A number as both versions read it: no exponent, and a point.
pub fn number(value: f64) -> String {
    let text = format!("{value}");
    if text.contains('.') { text } else { text + ".0" }
}

impl Query {
    /// The text of the query.
    ///
    /// Version 1.0, as solvers read it, has a comparison of one output with a number or with another output only: a query
    /// with other terms has no text in it.
    pub fn to_text(&self, comment: &str) -> Option<String> {
        let mut text = String::new();
        for line in comment.lines() {
            let _ = writeln!(text, "; {line}");
        }
        match self.version {
            Version::One => self.write_one(&mut text)?,
            Version::Two => self.write_two(&mut text),
        }
        Some(text)
    }

    fn write_one(&self, text: &mut String) -> Option<()> {
        let declare = |text: &mut String, name: &str, len: usize| {
            for i in 0..len {
                let _ = writeln!(text, "(declare-const {name}_{i} Real)");
            }
        };
        declare(text, "X", self.input.len());
        declare(text, "Y", self.output.len());
        for (i, (least, most)) in self.bounds.iter().enumerate() {
            let _ = writeln!(
                text,
                "(assert (>= X_{i} {}))\n(assert (<= X_{i} {}))",
                number(*least),
                number(*most)
            );
        }
        // Without a comparison every point of the box is an answer, which takes no assertion.
        if self.cases.iter().any(Vec::is_empty) {
            return Some(());
        }
        text.push_str("(assert (or\n");
        for case in &self.cases {
            let comparisons = case.iter().map(Comparison::in_one).collect::<Option<Vec<_>>>()?;
            let _ = writeln!(text, "(and {})", comparisons.join(" "));
        }
        text.push_str("))\n");
        Some(())
    }

    fn write_two(&self, text: &mut String) {
        let declared = |variable: &Variable| {
            let extents: Vec<String> = variable.shape.iter().map(usize::to_string).collect();
            format!("{} {} [{}]", variable.name, variable.element, extents.join(","))
        };
        let _ = writeln!(
            text,
            "(vnnlib-version <2.0>)\n(declare-network {}\n  (declare-input {})\n  (declare-output {})\n)",
            self.network,
            declared(&self.input),
            declared(&self.output)
        );
        for (i, (least, most)) in self.bounds.iter().enumerate() {
            let x = self.input.element(i);
            let _ =
                writeln!(text, "(assert (>= {x} {}))\n(assert (<= {x} {}))", number(*least), number(*most));
        }
        if self.cases.iter().any(Vec::is_empty) {
            return;
        }
        let cases: Vec<String> = self
            .cases
            .iter()
            .map(|case| {
                let comparisons: Vec<String> =
                    case.iter().map(|comparison| comparison.in_two(self)).collect();
                match &comparisons[..] {
                    [only] => only.clone(),
                    _ => format!("(and {})", comparisons.join(" ")),
                }
            })
            .collect();
        let _ = match &cases[..] {
            [only] => writeln!(text, "(assert {only})"),
            _ => writeln!(text, "(assert (or {}))", cases.join("\n  ")),
        };
    }
}

impl Variable {
    /// The element `i`, row-major, by its indices.
    pub(super) fn element(&self, mut i: usize) -> String {
        if self.shape.is_empty() {
            return self.name.clone();
        }
        let mut indices = Vec::new();
        for &extent in self.shape.iter().rev() {
            indices.push((i % extent).to_string());
            i /= extent;
        }
        indices.reverse();
        format!("{}[{}]", self.name, indices.join(","))
    }
}

impl Comparison {
    /// `Y_i ≤ c`, `Y_i ≥ c` or `Y_i ≤ Y_j`.
    fn in_one(&self) -> Option<String> {
        if !self.inputs.is_empty() {
            return None;
        }
        match self.outputs[..] {
            [(i, 1.0)] => Some(format!("(<= Y_{i} {})", number(-self.constant))),
            [(i, -1.0)] => Some(format!("(>= Y_{i} {})", number(self.constant))),
            [(i, 1.0), (j, -1.0)] | [(j, -1.0), (i, 1.0)] if self.constant == 0.0 => {
                Some(format!("(<= Y_{i} Y_{j})"))
            }
            _ => None,
        }
    }

    fn in_two(&self, query: &Query) -> String {
        let less = if self.strict { "<" } else { "<=" };
        if self.inputs.is_empty() {
            match self.outputs[..] {
                [(i, 1.0)] => {
                    return format!("({less} {} {})", query.output.element(i), number(-self.constant));
                }
                [(i, -1.0)] => {
                    let more = if self.strict { ">" } else { ">=" };
                    return format!("({more} {} {})", query.output.element(i), number(self.constant));
                }
                [(i, 1.0), (j, -1.0)] | [(j, -1.0), (i, 1.0)] if self.constant == 0.0 => {
                    return format!("({less} {} {})", query.output.element(i), query.output.element(j));
                }
                _ => {}
            }
        }
        let term = |variable: &Variable, &(i, factor): &(usize, f64)| {
            format!("(* {} {})", number(factor), variable.element(i))
        };
        let terms: Vec<String> = self
            .inputs
            .iter()
            .map(|t| term(&query.input, t))
            .chain(self.outputs.iter().map(|t| term(&query.output, t)))
            .chain([number(self.constant)])
            .collect();
        match &terms[..] {
            [only] => format!("({less} {only} 0.0)"),
            _ => format!("({less} (+ {}) 0.0)", terms.join(" ")),
        }
    }
}
