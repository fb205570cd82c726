//! Axes: the 1-2-5 rule for ticks, linear and logarithmic.

/// An axis of a chart.
#[derive(Clone, Debug, Default)]
pub struct Axis {
    /// What is measured, with its unit.
    pub title: String,
    /// Spacing.
    pub scale: Scale,
    /// Ends of the axis as (low, high); taken from the data and widened to whole ticks if `None`.
    pub range: Option<(f64, f64)>,
    /// What the ends that are taken from the data do not pass, such as 0 and 100 for per cent.
    pub limits: Option<(f64, f64)>,
}

/// Spacing of an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equally far apart.
    #[default]
    Linear,
    /// Equal ratios are equally far apart; values must be positive.
    Log,
}

/// A mark on an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// Where it stands.
    pub value: f64,
    /// What is written beside it.
    pub label: String,
}

/// Ticks on a linear axis from `low` to `high`, between `target / 2.5` rounded down and `target + 1` of them.
///
/// Neighbors are 1, 2 or 5 times a power of ten apart, and every tick is a whole multiple of that step.
///
/// # Panics
/// Unless `low < high`, both are finite, and `target > 0`.
///
/// ```
/// let labels: Vec<_> = tarrl_report::axis::ticks(0.0, 0.1, 5).into_iter().map(|t| t.label).collect();
/// assert_eq!(labels, ["0", "0.02", "0.04", "0.06", "0.08", "0.10"]);
/// ```
pub fn ticks(low: f64, high: f64, target: usize) -> Vec<Tick> {
    let step = Step::for_span(low, high, target);
    let size = step.times(1.0);
    // A billionth of a step keeps an end that differs from a multiple by rounding only.
    let (first, last) = ((low / size - 1e-9).ceil(), (high / size + 1e-9).floor());
    let count = (last - first + 1.0) as usize; // 0 if no multiple lies between
    (0..count).map(|k| step.tick(first + k as f64)).collect()
}

/// Ticks on a logarithmic axis: 1, 2 and 5 times powers of ten, or powers of ten alone where those are many.
///
/// # Panics
/// Unless `0 < low < high` and both are finite.
pub fn log_ticks(low: f64, high: f64) -> Vec<Tick> {
    assert!(0.0 < low && low < high && high.is_finite(), "log_ticks: no axis from {low} to {high}");
    let inside = |v: f64| v >= low * (1.0 - 1e-9) && v <= high * (1.0 + 1e-9);
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let all: Vec<f64> = decades
        .flat_map(|e| [1.0, 2.0, 5.0].map(|m| Step { mantissa: m, exponent: e }.times(1.0)))
        .filter(|&v| inside(v))
        .collect();
    let stride = if all.len() <= 8 { 1 } else { 3 * all.len().div_ceil(24) };
    let first = if stride == 1 { 0 } else { all.iter().position(|&v| is_decade(v)).unwrap_or(0) };
    let tick = |value: f64| Tick { value, label: label(value, value.log10().floor() as i32) };
    all.into_iter().skip(first).step_by(stride).map(tick).collect()
}

/// An axis with its ends settled: maps values to [0, 1].
pub(crate) struct Ruler {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) ticks: Vec<Tick>,
    scale: Scale,
}

impl Ruler {
    /// The ruler of `axis` for data that runs over `values`.
    pub(crate) fn new(axis: &Axis, values: impl Iterator<Item = f64>) -> Self {
        let (least, most) = axis.limits.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        let values = values.map(|v| v.max(least).min(most));
        let usable = values.filter(|&v| axis.scale == Scale::Linear || v > 0.0);
        let data = usable.fold(None, |span: Option<(f64, f64)>, v| {
            Some(span.map_or((v, v), |(low, high)| (low.min(v), high.max(v))))
        });
        let (low, high) = axis.range.unwrap_or_else(|| widened(axis.scale, data));
        let ticks = match axis.scale {
            Scale::Linear => ticks(low, high, 6),
            Scale::Log => log_ticks(low, high),
        };
        Self { low, high, ticks, scale: axis.scale }
    }

    /// Whether `value` has a place on this axis or its continuation.
    pub(crate) fn admits(&self, value: f64) -> bool {
        self.scale == Scale::Linear || value > 0.0
    }

    /// `value`, or the end of the axis that it passes.
    pub(crate) fn clamp(&self, value: f64) -> f64 {
        value.clamp(self.low, self.high)
    }

    /// Where `value` stands: 0 at the low end, 1 at the high end, far below 0 what a logarithmic axis does not admit.
    pub(crate) fn at(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => {
                (value.max(f64::MIN_POSITIVE).ln() - self.low.ln()) / (self.high.ln() - self.low.ln())
            }
        }
    }

    /// The value that stands at `fraction` of the way.
    pub(crate) fn value(&self, fraction: f64) -> f64 {
        match self.scale {
            Scale::Linear => self.low + fraction * (self.high - self.low),
            Scale::Log => (self.low.ln() + fraction * (self.high.ln() - self.low.ln())).exp(),
        }
    }
}

/// Ends for data in `span`: the nearest ticks outside it.
fn widened(scale: Scale, span: Option<(f64, f64)>) -> (f64, f64) {
    match (scale, span) {
        (Scale::Linear, None) => (0.0, 1.0),
        (Scale::Log, None) => (0.1, 1.0),
        (Scale::Linear, Some((low, high))) => {
            let size = low.abs().max(high.abs());
            let margin = match high - low {
                _ if size < 1e-100 => 1.0,
                span if span <= 1e-9 * size => 0.1 * size,
                _ => 0.0,
            };
            let (low, high) = (low - margin, high + margin);
            let step = Step::for_span(low, high, 6);
            let size = step.times(1.0);
            (step.times((low / size + 1e-9).floor()), step.times((high / size - 1e-9).ceil()))
        }
        (Scale::Log, Some((low, high))) => (one_two_five_below(low), 1.0 / one_two_five_below(1.0 / high)),
    }
}

/// The largest of 1, 2, 5 times a power of ten that is smaller than `value` by more than rounding.
fn one_two_five_below(value: f64) -> f64 {
    let exponent = value.log10().floor() as i32;
    let candidates = [(5.0, 0), (2.0, 0), (1.0, 0), (5.0, -1)];
    let values = candidates.map(|(mantissa, e)| Step { mantissa, exponent: exponent + e }.times(1.0));
    values.into_iter().find(|&v| v < value * (1.0 - 1e-9)).unwrap_or(values[3])
}

/// A step of the 1-2-5 rule: `mantissa · 10^exponent`.
struct Step {
    mantissa: f64,
    exponent: i32,
}

impl Step {
    /// The smallest such step that is at least `(high − low) / target`.
    fn for_span(low: f64, high: f64, target: usize) -> Self {
        let bad = || format!("ticks: no axis from {low} to {high} with {target} ticks");
        assert!(low < high && low.is_finite() && high.is_finite() && target > 0, "{}", bad());
        let raw = (high - low) / target as f64;
        let exponent = raw.log10().floor() as i32;
        let ladder = [(1.0, 0), (2.0, 0), (5.0, 0), (1.0, 1)];
        let steps = ladder.map(|(mantissa, e)| Self { mantissa, exponent: exponent + e });
        let [first, second, third, fourth] = steps;
        let enough = |step: &Self| step.times(1.0) >= raw * (1.0 - 1e-9);
        [first, second, third].into_iter().find(enough).unwrap_or(fourth)
    }

    /// `k` steps. Dividing by a power of ten, which is exact, rounds once: 3 steps of 0.1 are 0.3.
    fn times(&self, k: f64) -> f64 {
        let power = 10f64.powi(self.exponent.abs());
        if self.exponent < 0 { k * self.mantissa / power } else { k * self.mantissa * power }
    }

    fn tick(&self, k: f64) -> Tick {
        let value = self.times(k) + 0.0; // −0 + 0 is 0
        Tick { value, label: label(value, self.exponent) }
    }
}

/// `value` with the digits that a step of size `10^exponent` needs; powers of ten for the very large and small.
fn label(value: f64, exponent: i32) -> String {
    let plain = exponent >= -4 && value.abs() < 1e6;
    let text = if value == 0.0 {
        "0".to_string()
    } else if plain {
        format!("{value:.*}", exponent.min(0).unsigned_abs() as usize)
    } else {
        power_of_ten(value)
    };
    text.replace('-', "−")
}

fn power_of_ten(value: f64) -> String {
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').expect("the format has an exponent");
    let raised: String = exponent.chars().map(superscript).collect();
    match mantissa {
        "1" => format!("10{raised}"),
        "-1" => format!("-10{raised}"),
        _ => format!("{mantissa}·10{raised}"),
    }
}

fn superscript(c: char) -> char {
    match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => char::from_u32(0x2070 + (digit as u32 - '0' as u32)).expect("a digit"),
    }
}

fn is_decade(value: f64) -> bool {
    let log = value.log10();
    (log - log.round()).abs() < 1e-9
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(ticks: Vec<Tick>) -> Vec<String> {
        ticks.into_iter().map(|t| t.label).collect()
    }

    #[test]
    fn ticks_of_typical_axes_are_as_expected() {
        assert_eq!(labels(ticks(0.0, 100.0, 6)), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(labels(ticks(-0.03, 0.03, 4)), ["−0.02", "0", "0.02"]);
        assert_eq!(labels(ticks(0.0, 3e6, 3)), ["0", "10⁶", "2·10⁶", "3·10⁶"]);
        assert_eq!(labels(log_ticks(0.1, 10.0)), ["0.1", "0.2", "0.5", "1", "2", "5", "10"]);
        assert_eq!(labels(log_ticks(1e-6, 1.0)), ["10⁻⁶", "10⁻⁵", "0.0001", "0.001", "0.01", "0.1", "1"]);
        assert_eq!(ticks(0.0, 1.0, 10)[3].value, 0.3);
    }

    proptest! {
        #[test]
        fn linear_ticks_obey_the_rule(
            offset in -1e6f64..1e6,
            exponent in -6i32..9,
            part in 1.0f64..10.0,
            target in 1usize..20,
        ) {
            let span = part * 10f64.powi(exponent);
            let low = offset * span;
            let high = low + span;
            let all = ticks(low, high, target);
            // The step is at least span / target and less than 2.5 times that.
            prop_assert!(all.len() <= target + 1 && all.len() >= 2 * target / 5);
            let slack = 1e-8 * span;
            for t in &all {
                prop_assert!(t.value >= low - slack && t.value <= high + slack);
            }
            for pair in all.windows(2) {
                let step = pair[1].value - pair[0].value;
                let mantissa = step / 10f64.powf((step * (1.0 + 1e-6)).log10().floor());
                // Values are at most 1e6 spans, so steps lose at most 1e6 · target · 2^-52 < 1e-8 of their size.
                let near = |m: f64| (mantissa - m).abs() < 1e-5;
                prop_assert!(near(1.0) || near(2.0) || near(5.0) || near(10.0), "step {}", step);
                let k = pair[0].value / step;
                prop_assert!((k - k.round()).abs() < 0.2);
                prop_assert_ne!(&pair[0].label, &pair[1].label);
            }
        }

        #[test]
        fn log_ticks_are_inside_and_few(low in 1e-12f64..1e6, ratio in 2.6f64..1e12) {
            let high = low * ratio;
            let all = log_ticks(low, high);
            prop_assert!(!all.is_empty() && all.len() <= 9, "{} ticks", all.len());
            for t in &all {
                prop_assert!(t.value >= low * 0.999_999 && t.value <= high * 1.000_001);
                let first = format!("{:e}", t.value).chars().next().unwrap();
                prop_assert!("125".contains(first));
            }
        }

        #[test]
        fn an_axis_of_per_cent_stays_between_its_limits(values in prop::collection::vec(-30.0f64..130.0, 1..5)) {
            let axis = Axis { limits: Some((0.0, 100.0)), ..Axis::default() };
            let ruler = Ruler::new(&axis, values.iter().copied());
            // Values that all pass one limit leave an axis around it.
            let inside = values.iter().any(|v| (0.0..=100.0).contains(v)) && values.iter().any(|&v| v != values[0]);
            prop_assert!(!inside || (ruler.low >= 0.0 && ruler.high <= 100.0), "{} to {}", ruler.low, ruler.high);
        }

        #[test]
        fn a_ruler_holds_its_data_and_inverts(a in -1e6f64..1e6, b in -1e6f64..1e6, log in any::<bool>()) {
            let scale = if log { Scale::Log } else { Scale::Linear };
            let (a, b) = if log { (a.abs() + 1e-3, b.abs() + 1e-3) } else { (a, b) };
            let ruler = Ruler::new(&Axis { scale, ..Axis::default() }, [a, b].into_iter());
            for v in [a, b] {
                let at = ruler.at(v);
                prop_assert!((-1e-9..=1.0 + 1e-9).contains(&at));
                prop_assert!((ruler.value(at) - v).abs() <= 1e-9 * (ruler.high - ruler.low).max(v.abs()));
            }
            prop_assert!(ruler.ticks.len() >= 2);
        }
    }
}
