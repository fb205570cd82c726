//! Style of figures: colors, markers and dashes, in light and dark.

use crate::canvas::px;

/// The look of every figure, in light and dark.
///
/// The colors of series follow those of Okabe and Ito (2008), which differ for all common kinds of color vision, darkened
/// where they would have less than three to one against the paper. Markers and dashes differ as well. The subject of a
/// report alone is vermilion, `own`.
pub(crate) const SHEET: &str = "\
.tarrl{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\
.tarrl .paper{fill:#fff}.tarrl text{fill:#1f2328}.tarrl text.soft{fill:#59636e}.tarrl .head{font-size:13px}\
.tarrl .note{font-size:11px}.tarrl .rule{stroke:#e4e8ec}.tarrl .axis{stroke:#8b949e}\
.tarrl .strong{font-weight:700}\
.tarrl .reference{color:#59636e}.tarrl .halo{stroke:#fff;stroke-width:3px;stroke-linejoin:round;paint-order:stroke}\
.tarrl .own{color:#c84f00}.tarrl .c0{color:#0072b2}.tarrl .c1{color:#00805d}.tarrl .c2{color:#b0588a}\
.tarrl .c3{color:#2c8fc9}.tarrl .c4{color:#956600}.tarrl .c5{color:#6e5494}\
@media (prefers-color-scheme:dark){\
.tarrl .paper{fill:#15191e}.tarrl text{fill:#e6e9ec}.tarrl text.soft{fill:#9aa4af}\
.tarrl .rule{stroke:#2a3038}.tarrl .axis{stroke:#6b7580}.tarrl .reference{color:#9aa4af}\
.tarrl .halo{stroke:#15191e}\
.tarrl .own{color:#ff8a3d}.tarrl .c0{color:#4aa8e0}.tarrl .c1{color:#2fc79a}.tarrl .c2{color:#e39ac2}\
.tarrl .c3{color:#8fd0f5}.tarrl .c4{color:#e6b02e}.tarrl .c5{color:#ab94d6}}";

/// How a series is drawn.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Look {
    /// The class that colors it.
    pub(crate) color: String,
    /// Width of its line in pixels.
    pub(crate) line: f64,
    /// Dashes of its line; none is a solid line.
    pub(crate) dashes: Option<&'static str>,
    /// Whether it is the subject of the report.
    pub(crate) own: bool,
    shape: usize,
    scale: f64,
}

/// The look of the series number `index`; `own` is that of the subject.
///
/// Six colors, five markers and seven dashes repeat. Five and seven share no factor with the others, so that 210 series
/// have different looks.
pub(crate) fn look(index: usize, own: bool) -> Look {
    if own {
        return Look { color: "own".into(), line: 3.2, dashes: None, own, shape: 0, scale: 1.35 };
    }
    let dashes =
        [None, Some("7 3"), Some("2 3"), Some("9 3 2 3"), Some("4 2"), Some("12 4"), Some("5 2 1 2")];
    let color = format!("c{}", index % 6);
    Look { color, line: 1.6, dashes: dashes[index % 7], own, shape: 1 + index % 5, scale: 0.9 }
}

impl Look {
    /// The outline of the marker, centered on (x, y): a disk for the subject, other shapes for others.
    pub(crate) fn marker(&self, x: f64, y: f64) -> String {
        let at = |(dx, dy): (f64, f64)| format!("{} {}", px(x + self.scale * dx), px(y + self.scale * dy));
        let corners = |corners: &[(f64, f64)]| {
            format!("M{}Z", corners.iter().copied().map(at).collect::<Vec<_>>().join("L"))
        };
        match self.shape {
            0 => {
                let r = px(4.0 * self.scale);
                let d = px(8.0 * self.scale);
                format!("M{}a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0Z", at((-4.0, 0.0)))
            }
            1 => corners(&[(-3.5, -3.5), (3.5, -3.5), (3.5, 3.5), (-3.5, 3.5)]),
            2 => corners(&[(0.0, -4.8), (4.4, 3.2), (-4.4, 3.2)]),
            3 => corners(&[(0.0, -5.0), (5.0, 0.0), (0.0, 5.0), (-5.0, 0.0)]),
            4 => corners(&[(0.0, 4.8), (4.4, -3.2), (-4.4, -3.2)]),
            _ => corners(&[
                (-1.5, -4.5),
                (1.5, -4.5),
                (1.5, -1.5),
                (4.5, -1.5),
                (4.5, 1.5),
                (1.5, 1.5),
                (1.5, 4.5),
                (-1.5, 4.5),
                (-1.5, 1.5),
                (-4.5, 1.5),
                (-4.5, -1.5),
                (-1.5, -1.5),
            ]),
        }
    }
}

/// Dashes of the reference line number `index`.
pub(crate) fn dashes(index: usize) -> &'static str {
    ["6 4", "2 3", "9 3 2 3"][index % 3]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn series_are_told_apart_without_color_by_marker_and_dashes() {
        let without_color = |i| {
            let look = look(i, i == 0);
            (look.marker(0.0, 0.0), look.dashes)
        };
        assert_eq!((0..35).map(without_color).collect::<HashSet<_>>().len(), 35);
        let all = (0..210).map(|i| format!("{:?}", look(i, false)));
        assert_eq!(all.collect::<HashSet<_>>().len(), 210);
    }
}
