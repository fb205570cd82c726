//! Style of figures: colors, markers and dashes, in light and dark.

use crate::canvas::px;

/// The look of every figure, in light and dark.
///
/// The colors of series are those of Okabe and Ito (2008), which differ for all common kinds of color vision;
/// the dark variants are lighter, and markers differ as well as colors.
pub(crate) const SHEET: &str = "\
.tarrl{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\
.tarrl .paper{fill:#fff}.tarrl text{fill:#1f2328}.tarrl text.soft{fill:#59636e}.tarrl .head{font-size:13px}\
.tarrl .note{font-size:11px}.tarrl .rule{stroke:#e4e8ec}.tarrl .axis{stroke:#8b949e}\
.tarrl .reference{color:#59636e}.tarrl .halo{stroke:#fff;stroke-width:3px;stroke-linejoin:round;paint-order:stroke}\
.tarrl .c0{color:#0072b2}.tarrl .c1{color:#d55e00}.tarrl .c2{color:#009e73}.tarrl .c3{color:#cc79a7}\
.tarrl .c4{color:#56b4e9}.tarrl .c5{color:#b97f00}.tarrl .c6{color:#6e5494}\
@media (prefers-color-scheme:dark){\
.tarrl .paper{fill:#15191e}.tarrl text{fill:#e6e9ec}.tarrl text.soft{fill:#9aa4af}\
.tarrl .rule{stroke:#2a3038}.tarrl .axis{stroke:#6b7580}.tarrl .reference{color:#9aa4af}\
.tarrl .halo{stroke:#15191e}\
.tarrl .c0{color:#4aa8e0}.tarrl .c1{color:#ff8a3d}.tarrl .c2{color:#2fc79a}.tarrl .c3{color:#e39ac2}\
.tarrl .c4{color:#8fd0f5}.tarrl .c5{color:#e6b02e}.tarrl .c6{color:#ab94d6}}";

/// The class that colors the series number `index`; the seven colors repeat.
pub(crate) fn color(index: usize) -> String {
    format!("c{}", index % 7)
}

/// The outline of the marker of the series number `index`, centered on (x, y); the five shapes repeat.
///
/// Five and seven share no factor, so that 35 series have different pairs of shape and color.
pub(crate) fn marker(index: usize, x: f64, y: f64) -> String {
    let corners = |corners: &[(f64, f64)]| {
        let points: Vec<String> =
            corners.iter().map(|(dx, dy)| format!("{} {}", px(x + dx), px(y + dy))).collect();
        format!("M{}Z", points.join("L"))
    };
    match index % 5 {
        0 => format!("M{} {}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z", px(x - 4.0), px(y)),
        1 => corners(&[(-3.5, -3.5), (3.5, -3.5), (3.5, 3.5), (-3.5, 3.5)]),
        2 => corners(&[(0.0, -4.8), (4.4, 3.2), (-4.4, 3.2)]),
        3 => corners(&[(0.0, -5.0), (5.0, 0.0), (0.0, 5.0), (-5.0, 0.0)]),
        _ => corners(&[(0.0, 4.8), (4.4, -3.2), (-4.4, -3.2)]),
    }
}

/// Dashes of the reference line number `index`.
pub(crate) fn dashes(index: usize) -> &'static str {
    ["6 4", "2 3", "9 3 2 3"][index % 3]
}
