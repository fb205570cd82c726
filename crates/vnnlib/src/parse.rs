//! The reader of queries: both versions of the language, as far as one network with one input and one output needs it.

use crate::error::QueryError;
use crate::query::{Comparison, Query, Variable, Version};
use crate::tokens::{Expr, Place, parse};
use std::collections::BTreeMap;

/// Comparisons at most, in all cases together: what a product of disjunctions could grow to.
const MOST_COMPARISONS: usize = 1 << 16;

/// Elements of a variable at most.
const MOST_ELEMENTS: usize = 1 << 24;

/// What joins a network to one declared before it.
const JOINTS: [&str; 2] = ["equal-to", "isomorphic-to"];

type Parsed<T> = Result<T, QueryError>;

/// A sum of elements, each with a factor, and a number.
#[derive(Clone, Debug, Default)]
struct Linear {
    inputs: BTreeMap<usize, f64>,
    outputs: BTreeMap<usize, f64>,
    constant: f64,
}

impl Linear {
    fn is_number(&self) -> bool {
        self.inputs.is_empty() && self.outputs.is_empty()
    }

    fn scaled(mut self, factor: f64) -> Self {
        self.inputs.values_mut().chain(self.outputs.values_mut()).for_each(|value| *value *= factor);
        self.constant *= factor;
        self
    }

    fn plus(mut self, other: Linear) -> Self {
        for (own, others) in [(&mut self.inputs, other.inputs), (&mut self.outputs, other.outputs)] {
            for (i, factor) in others {
                *own.entry(i).or_default() += factor;
            }
        }
        self.constant += other.constant;
        self
    }

    /// `self ≤ 0`, or `self < 0`.
    fn comparison(&self, strict: bool) -> Comparison {
        let terms = |of: &BTreeMap<usize, f64>| of.iter().map(|(&i, &factor)| (i, factor)).collect();
        Comparison {
            inputs: terms(&self.inputs),
            outputs: terms(&self.outputs),
            constant: self.constant,
            strict,
        }
    }
}

/// The variables in scope.
struct Scope {
    version: Version,
    input: Variable,
    output: Variable,
    /// Version 1.0 names every element.
    inputs: usize,
    outputs: usize,
}

impl Query {
    /// The query in a text.
    ///
    /// # Errors
    /// With line and column, if the text is no query, or one of more than one network, input or output, or not linear.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let all = parse(text)?;
        let Some(first) = all.first() else {
            return Err(QueryError { line: 1, column: 1, reason: "the file is empty".into() });
        };
        match first.call() {
            Some(("vnnlib-version", rest)) => two(first.place(), rest, &all[1..]),
            Some(("declare-const", _)) => one(&all),
            Some(("declare-network", _)) => {
                first.place().fault("a query of version 2.0 begins with (vnnlib-version <2.0>)")
            }
            _ => first.place().fault(
                "a query begins with (vnnlib-version <2.0>), or with (declare-const X_0 Real) in version 1.0",
            ),
        }
    }
}

fn one(all: &[Expr<'_>]) -> Parsed<Query> {
    let (mut inputs, mut outputs) = (0, 0);
    let declarations = all.iter().take_while(|expr| matches!(expr.call(), Some(("declare-const", _))));
    let declared = declarations.clone().count();
    for expr in declarations {
        let place = expr.place();
        let Some((_, [name, kind])) = expr.call() else {
            return place.fault("a declaration is (declare-const X_0 Real)");
        };
        if kind.word() != Some("Real") {
            return kind.place().fault("only the type Real is read in version 1.0");
        }
        let name = name.word().unwrap_or("");
        let next = |prefix: &str, count: &mut usize| -> bool {
            let fits = name.strip_prefix(prefix).is_some_and(|number| number == count.to_string());
            *count += usize::from(fits);
            fits
        };
        if !(next("X_", &mut inputs) || next("Y_", &mut outputs)) {
            return place.fault(format!("{name:?} is not the next of X_0, X_1, … and Y_0, Y_1, …"));
        }
    }
    let variable =
        |name: &str, len: usize| Variable { name: name.into(), element: "real".into(), shape: vec![len] };
    let scope = Scope {
        version: Version::One,
        input: variable("X", inputs),
        output: variable("Y", outputs),
        inputs,
        outputs,
    };
    scope.query("f", &all[declared..])
}

fn two(place: Place, version: &[Expr<'_>], all: &[Expr<'_>]) -> Parsed<Query> {
    match version {
        [word] if word.word() == Some("<2.0>") => {}
        _ => return place.fault("only version <2.0> is read"),
    }
    let Some((network, rest)) = all.split_first() else { return place.fault("it declares no network") };
    let Some(("declare-network", parts)) = network.call() else {
        return network.place().fault("a network has to be declared first: (declare-network f …)");
    };
    let Some((name, parts)) = parts.split_first() else {
        return network.place().fault("the network has no name");
    };
    let own = identifier(name)?;
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    for part in parts {
        match part.call() {
            Some(("declare-input", rest)) if outputs.is_empty() => inputs.push(variable(part.place(), rest)?),
            Some(("declare-input", _)) => return part.place().fault("inputs are declared before outputs"),
            Some(("declare-output", rest)) => outputs.push(variable(part.place(), rest)?),
            Some(("declare-hidden", _)) => return part.place().fault("hidden values are not supported"),
            Some((word, _)) if JOINTS.contains(&word) => {
                return part.place().fault(format!("a second network ({word}) is not supported"));
            }
            _ => return part.place().fault("a network has (declare-input …) and (declare-output …)"),
        }
    }
    if let Some(second) = rest.iter().find(|expr| matches!(expr.call(), Some(("declare-network", _)))) {
        let parts = second.call().map_or(&[][..], |(_, parts)| parts).iter();
        let joint = parts.filter_map(|part| part.call()).find(|(word, _)| JOINTS.contains(word));
        let how = joint.map_or(String::new(), |(word, _)| format!(" ({word})"));
        return second.place().fault(format!("a second network{how} is not supported"));
    }
    let one = |list: Vec<Variable>, what: &str| match <[Variable; 1]>::try_from(list) {
        Ok([only]) => Ok(only),
        Err(list) => network.place().fault(format!("it has {} {what}; one is supported", list.len())),
    };
    let (input, output) = (one(inputs, "inputs")?, one(outputs, "outputs")?);
    if input.name == output.name || input.name == own || output.name == own {
        return network.place().fault("the names of network, input and output have to differ");
    }
    let (inputs, outputs) = (input.len(), output.len());
    let scope = Scope { version: Version::Two, input, output, inputs, outputs };
    scope.query(own, rest)
}

/// A name of version 2.0: a letter, then letters, digits and `_`.
fn identifier<'a>(expr: &Expr<'a>) -> Parsed<&'a str> {
    let word = expr.word().unwrap_or("");
    let legal = word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if legal {
        Ok(word)
    } else {
        expr.place().fault(format!("{word:?} is no name: a letter, then letters, digits and _"))
    }
}

fn variable(place: Place, parts: &[Expr<'_>]) -> Parsed<Variable> {
    let [name, element, shape] = parts else {
        return place.fault("a variable is declared as (declare-input X float32 [1,2])");
    };
    let name = identifier(name)?.to_owned();
    let of = element.word().unwrap_or("");
    if !["float32", "real"].contains(&of) {
        return element
            .place()
            .fault(format!("elements of the type {of:?} are not supported; use float32 or real"));
    }
    let text = shape.word().and_then(|word| word.strip_prefix('[')).and_then(|word| word.strip_suffix(']'));
    let Some(text) = text else { return shape.place().fault("a shape is written as [1,2]") };
    let mut extents = Vec::new();
    if !text.trim().is_empty() {
        for part in text.split(',') {
            match part.trim().parse::<usize>() {
                Ok(extent) if extent > 0 => extents.push(extent),
                _ => return shape.place().fault(format!("{part:?} is no positive extent")),
            }
        }
    }
    let len = extents.iter().try_fold(1usize, |len, &extent| len.checked_mul(extent));
    if len.is_none_or(|len| len > MOST_ELEMENTS) {
        return shape.place().fault(format!("more than {MOST_ELEMENTS} elements are not supported"));
    }
    Ok(Variable { name, element: of.into(), shape: extents })
}

/// The formulas that hold together where one holds: the parts of each `and`, which are as many assertions.
fn conjuncts<'a, 'b>(formula: &'b Expr<'a>, found: &mut Vec<&'b Expr<'a>>) {
    match formula.call() {
        Some(("and", parts)) if !parts.is_empty() => parts.iter().for_each(|part| conjuncts(part, found)),
        _ => found.push(formula),
    }
}

impl Scope {
    fn query(self, network: &str, asserts: &[Expr<'_>]) -> Parsed<Query> {
        if self.inputs == 0 || self.outputs == 0 {
            let reason = "it declares no input or no output".into();
            return Err(QueryError { line: 1, column: 1, reason });
        }
        let mut bounds = vec![(f64::NEG_INFINITY, f64::INFINITY); self.inputs];
        let mut cases = vec![Vec::new()];
        let mut formulas = Vec::new();
        for assert in asserts {
            let Some(("assert", [formula])) = assert.call() else {
                return assert
                    .place()
                    .fault("after the declarations there are assertions of one formula: (assert …)");
            };
            conjuncts(formula, &mut formulas);
        }
        for formula in formulas {
            let mut found = self.formula(formula)?;
            // What holds in every case is a bound of the box.
            if let [only] = &mut found[..] {
                only.retain(|comparison| match bound(comparison) {
                    Some((i, least, most)) => {
                        bounds[i] = (bounds[i].0.max(least), bounds[i].1.min(most));
                        // The box has its ends; a strict bound does not.
                        comparison.strict
                    }
                    None => true,
                });
            }
            match &found[..] {
                [only] => {
                    cases.iter_mut().for_each(|case| case.extend_from_slice(only));
                    check_size(formula.place(), &cases)?;
                }
                _ => cases = product(formula.place(), &cases, &found)?,
            }
        }
        if let Some(i) = bounds.iter().position(|(l, u)| !(l.is_finite() && u.is_finite())) {
            let name = match self.version {
                Version::One => format!("X_{i}"),
                Version::Two => self.input.element(i),
            };
            let reason = format!("{name} is not bounded on both sides by what holds in every case");
            return Err(QueryError { line: 1, column: 1, reason });
        }
        Ok(Query {
            version: self.version,
            network: network.into(),
            input: self.input,
            output: self.output,
            bounds,
            cases,
        })
    }

    /// A formula as a list of cases, in each of which all comparisons hold.
    fn formula(&self, expr: &Expr<'_>) -> Parsed<Vec<Vec<Comparison>>> {
        let place = expr.place();
        let Some((head, rest)) = expr.call() else {
            return place.fault("a formula is a comparison, an and or an or");
        };
        match head {
            "and" | "or" if rest.is_empty() => place.fault(format!("({head} ) has no part")),
            "and" => {
                let mut cases = vec![Vec::new()];
                for part in rest {
                    cases = product(place, &cases, &self.formula(part)?)?;
                }
                Ok(cases)
            }
            "or" => {
                let mut cases = Vec::new();
                for part in rest {
                    cases.extend(self.formula(part)?);
                }
                check_size(place, &cases)?;
                Ok(cases)
            }
            "<=" | ">=" | "<" | ">" | "==" | "!=" => {
                let [a, b] = rest else { return place.fault(format!("({head} …) compares two terms")) };
                let (a, b) = (self.term(a)?, self.term(b)?);
                let less = |strict: bool| a.clone().plus(b.clone().scaled(-1.0)).comparison(strict);
                let more = |strict: bool| b.clone().plus(a.clone().scaled(-1.0)).comparison(strict);
                let one = self.version == Version::One;
                match head {
                    "<=" => Ok(vec![vec![less(false)]]),
                    ">=" => Ok(vec![vec![more(false)]]),
                    _ if one => place.fault(format!("version 1.0 has <= and >= alone, not {head}")),
                    "<" => Ok(vec![vec![less(true)]]),
                    ">" => Ok(vec![vec![more(true)]]),
                    "==" => Ok(vec![vec![less(false), more(false)]]),
                    _ => Ok(vec![vec![less(true)], vec![more(true)]]),
                }
            }
            "=" => place.fault("equality is written =="),
            other => {
                place.fault(format!("{other:?} is not supported; formulas have and, or and comparisons"))
            }
        }
    }

    fn term(&self, expr: &Expr<'_>) -> Parsed<Linear> {
        let place = expr.place();
        if let Some(word) = expr.word() {
            return self.atom(word, place);
        }
        let Some((head, rest)) = expr.call() else {
            return place.fault("a term is a number, an element or a sum");
        };
        if !["+", "-", "*"].contains(&head) || rest.is_empty() {
            return place.fault(format!("{head:?} is not supported; terms have +, - and *"));
        }
        if self.version == Version::One && !(head == "-" && rest.len() == 1) {
            return place.fault("version 1.0, as solvers read it, has no arithmetic");
        }
        let terms = rest.iter().map(|part| self.term(part)).collect::<Parsed<Vec<_>>>()?;
        let mut terms = terms.into_iter();
        let first = terms.next().unwrap_or_default();
        match head {
            "+" => Ok(terms.fold(first, Linear::plus)),
            "-" if rest.len() == 1 => Ok(first.scaled(-1.0)),
            "-" => Ok(terms.fold(first, |sum, term| sum.plus(term.scaled(-1.0)))),
            _ => terms.try_fold(first, |product, term| match (product.is_number(), term.is_number()) {
                (true, _) => Ok(term.scaled(product.constant)),
                (_, true) => Ok(product.scaled(term.constant)),
                _ => place.fault("a product of elements is not linear"),
            }),
        }
    }

    fn atom(&self, word: &str, place: Place) -> Parsed<Linear> {
        if word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
            let constant = self.number(word).or_else(|reason| place.fault(reason))?;
            return Ok(Linear { constant, ..Linear::default() });
        }
        let element = |is_input: bool, i: usize| {
            let one = BTreeMap::from([(i, 1.0)]);
            match is_input {
                true => Linear { inputs: one, ..Linear::default() },
                false => Linear { outputs: one, ..Linear::default() },
            }
        };
        if self.version == Version::One {
            for (prefix, is_input, len) in [("X_", true, self.inputs), ("Y_", false, self.outputs)] {
                if let Some(i) = word.strip_prefix(prefix).and_then(|number| number.parse::<usize>().ok()) {
                    return if i < len {
                        Ok(element(is_input, i))
                    } else {
                        place.fault(format!("{word} is not declared"))
                    };
                }
            }
            return place.fault(format!("{word:?} is not declared"));
        }
        let (name, index) = match word.split_once('[') {
            Some((name, index)) => (name.trim_end(), index.strip_suffix(']')),
            None => (word, Some("")),
        };
        for (variable, is_input) in [(&self.input, true), (&self.output, false)] {
            if variable.name != name {
                continue;
            }
            let parts: Vec<&str> =
                index.unwrap_or("").split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
            if parts.len() != variable.shape.len() || index.is_none() {
                return place.fault(format!("{word:?} needs {} indices", variable.shape.len()));
            }
            let mut flat = 0;
            for (part, &extent) in parts.iter().zip(&variable.shape) {
                match part.parse::<usize>() {
                    Ok(i) if i < extent => flat = flat * extent + i,
                    _ => return place.fault(format!("the index {part:?} of {word:?} is not below {extent}")),
                }
            }
            return Ok(element(is_input, flat));
        }
        place.fault(format!("{name:?} is not declared"))
    }

    /// A number as the version writes it.
    fn number(&self, word: &str) -> Result<f64, String> {
        let plain = || {
            let digits = word.strip_prefix('-').unwrap_or(word);
            let (whole, fraction) = digits.split_once('.')?;
            let all = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            (all(whole) && all(fraction)).then_some(())
        };
        if self.version == Version::Two && plain().is_none() {
            return Err(format!(
                "{word:?} is no number of version 2.0: digits, a point and digits, without an exponent, as in 0.00001"
            ));
        }
        match word.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err(format!("{word:?} is no number")),
        }
    }
}

/// The element that a comparison bounds, and what it bounds it to.
fn bound(comparison: &Comparison) -> Option<(usize, f64, f64)> {
    let ([(i, factor)], []) = (&comparison.inputs[..], &comparison.outputs[..]) else { return None };
    let end = -comparison.constant / factor;
    match factor {
        1.0 => Some((*i, f64::NEG_INFINITY, end)),
        -1.0 => Some((*i, end, f64::INFINITY)),
        _ => None,
    }
}

/// Both lists of cases at once.
fn product(place: Place, a: &[Vec<Comparison>], b: &[Vec<Comparison>]) -> Parsed<Vec<Vec<Comparison>>> {
    let size = |cases: &[Vec<Comparison>]| cases.iter().map(|case| case.len() + 1).sum::<usize>();
    if size(a).saturating_mul(b.len()).saturating_add(size(b).saturating_mul(a.len())) > MOST_COMPARISONS {
        return place.fault(format!("its cases have more than {MOST_COMPARISONS} comparisons"));
    }
    Ok(a.iter().flat_map(|a| b.iter().map(move |b| [&a[..], &b[..]].concat())).collect())
}

fn check_size(place: Place, cases: &[Vec<Comparison>]) -> Parsed<()> {
    let size: usize = cases.iter().map(|case| case.len() + 1).sum();
    if size > MOST_COMPARISONS {
        return place.fault(format!("its cases have more than {MOST_COMPARISONS} comparisons"));
    }
    Ok(())
}
