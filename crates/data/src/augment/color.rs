//! Color transforms of the planes `(c, h·w)` of one image in [0, 1].

use super::sampled::{ColorOp, SampledJitter};

/// Weights of red, green and blue in gray, as torch's tensor transforms have them.
const GRAY: [f32; 3] = [0.2989, 0.587, 0.114];

/// Applies the four changes in their order; on one plane only brightness and contrast.
pub(super) fn jitter(planes: &mut [f32], channels: usize, sampled: &SampledJitter) {
    for op in sampled.order {
        match op {
            ColorOp::Brightness => brightness(planes, sampled.brightness),
            ColorOp::Contrast => contrast(planes, channels, sampled.contrast),
            ColorOp::Saturation if channels == 3 => saturation(planes, sampled.saturation),
            ColorOp::Hue if channels == 3 => hue(planes, sampled.hue),
            ColorOp::Saturation | ColorOp::Hue => {}
        }
    }
}

/// Gives all three planes the gray of the pixel.
pub(super) fn grayscale(planes: &mut [f32]) {
    let [r, g, b] = split(planes);
    for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
        let y = gray(*r, *g, *b);
        (*r, *g, *b) = (y, y, y);
    }
}

/// Inverts what is at least one half.
pub(super) fn solarize(planes: &mut [f32]) {
    planes.iter_mut().for_each(|x| *x = if *x >= 0.5 { 1.0 - *x } else { *x });
}

fn brightness(planes: &mut [f32], factor: f32) {
    if factor != 1.0 {
        planes.iter_mut().for_each(|x| *x = (factor * *x).clamp(0.0, 1.0));
    }
}

fn contrast(planes: &mut [f32], channels: usize, factor: f32) {
    if factor == 1.0 {
        return;
    }
    let n = planes.len() / channels;
    let total = if channels == 1 {
        sum(planes)
    } else {
        // The mean of the grays is the gray of the means.
        planes.chunks_exact(n).zip(GRAY).map(|(plane, weight)| weight * sum(plane)).sum()
    };
    let offset = (1.0 - factor) * (total / n as f32);
    planes.iter_mut().for_each(|x| *x = (factor * *x + offset).clamp(0.0, 1.0));
}

fn saturation(planes: &mut [f32], factor: f32) {
    if factor == 1.0 {
        return;
    }
    let [r, g, b] = split(planes);
    for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
        let offset = (1.0 - factor) * gray(*r, *g, *b);
        *r = (factor * *r + offset).clamp(0.0, 1.0);
        *g = (factor * *g + offset).clamp(0.0, 1.0);
        *b = (factor * *b + offset).clamp(0.0, 1.0);
    }
}

/// Turns the hue of the hue–saturation–value form by `turn` of a circle, |turn| ≤ 1.
///
/// Written with selections instead of branches, so that the compiler can do several pixels at once.
fn hue(planes: &mut [f32], turn: f32) {
    if turn == 0.0 {
        return;
    }
    let [r, g, b] = split(planes);
    for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
        let value = r.max(*g).max(*b);
        let chroma = value - r.min(*g).min(*b);
        let inverse = if chroma > 0.0 { 1.0 / chroma } else { 0.0 };
        let sector = if value == *r {
            (*g - *b) * inverse
        } else if value == *g {
            2.0 + (*b - *r) * inverse
        } else {
            4.0 + (*r - *g) * inverse
        };
        let h = wrapped(wrapped(sector + 6.0 * turn));
        // The channel at distance k from its peak: full for |k| ≤ 1, falling to none at |k| = 2.
        let channel = |shift: f32| {
            let k = wrapped(h + shift);
            value - chroma * k.min(4.0 - k).clamp(0.0, 1.0)
        };
        (*r, *g, *b) = (channel(5.0), channel(3.0), channel(1.0));
    }
}

/// Brings a number of [−6, 12) into [0, 6).
fn wrapped(h: f32) -> f32 {
    let h = if h < 0.0 { h + 6.0 } else { h };
    if h >= 6.0 { h - 6.0 } else { h }
}

fn gray(r: f32, g: f32, b: f32) -> f32 {
    GRAY[0] * r + GRAY[1] * g + GRAY[2] * b
}

fn split(planes: &mut [f32]) -> [&mut [f32]; 3] {
    let n = planes.len() / 3;
    let (r, rest) = planes.split_at_mut(n);
    let (g, b) = rest.split_at_mut(n);
    [r, g, b]
}

/// A sum in eight fixed lanes: the same bits everywhere, and fast.
fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0; 8];
    let chunks = values.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane += x);
    }
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A few roundings of numbers up to 6 (the sectors of the color circle).
    const TOLERANCE: f32 = 24.0 * f32::EPSILON;

    fn close(found: &[f32], want: &[f32]) -> bool {
        found.len() == want.len() && found.iter().zip(want).all(|(f, w)| (f - w).abs() <= TOLERANCE)
    }

    fn after(mut pixels: Vec<f32>, op: impl Fn(&mut [f32])) -> Vec<f32> {
        op(&mut pixels);
        pixels
    }

    #[test]
    fn hue_matches_known_rotations() {
        for (rgb, turn, want) in [
            ([0.8, 0.4, 0.2], 0.1, [0.8, 0.76, 0.2]),
            ([0.8, 0.4, 0.2], -0.1, [0.8, 0.2, 0.36]),
            ([0.2, 0.5, 0.9], 0.25, [0.9, 0.2, 0.85]),
            ([0.3, 0.3, 0.3], 0.4, [0.3, 0.3, 0.3]),
            ([0.0, 0.0, 0.0], -0.5, [0.0, 0.0, 0.0]),
        ] {
            let found = after(rgb.to_vec(), |p| hue(p, turn));
            assert!(close(&found, &want), "{rgb:?} turned by {turn}: {found:?}");
        }
    }

    #[test]
    fn grayscale_and_saturation_match_known_values() {
        let rgb = vec![0.8, 0.4, 0.2];
        assert!(close(&after(rgb.clone(), grayscale), &[0.49672; 3]));
        assert!(close(&after(rgb, |p| saturation(p, 1.4)), &[0.921312, 0.361312, 0.081312]));
    }

    #[test]
    fn contrast_turns_about_the_mean_gray() {
        // Two pixels (.8, .4, .2) and (.2, .2, .2): grays .49672 and .19998, mean .34835.
        let rgb = vec![0.8, 0.2, 0.4, 0.2, 0.2, 0.2];
        let want: Vec<f32> = rgb.iter().map(|x| 0.5 * x + 0.5 * 0.34835).collect();
        assert!(close(&after(rgb, |p| contrast(p, 3, 0.5)), &want));
        // One plane: its own mean .5, without the gray weights, which sum to .9999; then clamped.
        assert!(close(&after(vec![0.2, 0.8], |p| contrast(p, 1, 2.0)), &[0.0, 1.0]));
        assert!(close(&after(vec![0.4, 0.6], |p| contrast(p, 1, 2.0)), &[0.3, 0.7]));
    }

    #[test]
    fn the_order_matters_and_gray_images_skip_color() {
        let sampled =
            |order| SampledJitter { order, brightness: 2.0, contrast: 0.5, saturation: 3.0, hue: 0.3 };
        use ColorOp::*;
        // Brightness first: (.3, .9) → (.6, 1) → .4 + (.3, .5); contrast first: (.45, .75) → (.9, 1).
        let first =
            after(vec![0.3, 0.9], |p| jitter(p, 1, &sampled([Brightness, Hue, Contrast, Saturation])));
        assert!(close(&first, &[0.7, 0.9]), "{first:?}");
        let second =
            after(vec![0.3, 0.9], |p| jitter(p, 1, &sampled([Contrast, Saturation, Brightness, Hue])));
        assert!(close(&second, &[0.9, 1.0]), "{second:?}");
    }

    #[test]
    fn solarize_inverts_from_one_half() {
        assert_eq!(after(vec![0.25, 0.5, 0.75, 1.0], solarize), [0.25, 0.5, 0.25, 0.0]);
    }

    /// Hue by the textbook: to HSV and back through the six sectors, in f64.
    fn textbook(rgb: [f64; 3], turn: f64) -> [f64; 3] {
        let (max, min) = (rgb.iter().copied().fold(0.0, f64::max), rgb.iter().copied().fold(1.0, f64::min));
        if max == min {
            return rgb;
        }
        let d = max - min;
        let position = if rgb[0] == max {
            (rgb[1] - rgb[2]) / d
        } else if rgb[1] == max {
            2.0 + (rgb[2] - rgb[0]) / d
        } else {
            4.0 + (rgb[0] - rgb[1]) / d
        };
        let h = (position / 6.0 + turn).rem_euclid(1.0) * 6.0;
        let (s, i, f) = (d / max, h.floor(), h.fract());
        let (p, q, t) = (max * (1.0 - s), max * (1.0 - s * f), max * (1.0 - s * (1.0 - f)));
        [[max, t, p], [q, max, p], [p, max, t], [p, q, max], [t, p, max], [max, p, q]][i as usize % 6]
    }

    proptest! {
        #[test]
        fn hue_equals_the_textbook(rgb in proptest::array::uniform3(0.0f32..=1.0), turn in -0.5f32..=0.5) {
            let found = after(rgb.to_vec(), |p| hue(p, turn));
            let want = textbook(rgb.map(f64::from), f64::from(turn)).map(|x| x as f32);
            prop_assert!(close(&found, &want), "{:?} {:?}", found, want);
        }

        #[test]
        fn results_stay_in_range(
            pixels in proptest::collection::vec(0.0f32..=1.0, 12),
            factors in proptest::array::uniform3(0.0f32..3.0),
            turn in -0.5f32..=0.5,
            seed: u64,
        ) {
            let mut order = [ColorOp::Brightness, ColorOp::Contrast, ColorOp::Saturation, ColorOp::Hue];
            tarrl_tensor::Key::new(seed).stream().shuffle(&mut order);
            let [brightness, contrast, saturation] = factors;
            let sampled = SampledJitter { order, brightness, contrast, saturation, hue: turn };
            let found = after(pixels, |p| jitter(p, 3, &sampled));
            prop_assert!(found.iter().all(|x| (0.0..=1.0).contains(x)), "{:?}", found);
        }
    }
}
