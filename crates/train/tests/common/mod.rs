//! Small synthetic images.

use ndarray::Array4;
use std::sync::Arc;
use tarrl_data::Dataset;
use tarrl_tensor::Key;

/// 256 gray images of 12×12: a bright bar at one of four angles, somewhere, in noise.
pub(crate) fn images() -> Arc<Dataset> {
    let (n, side) = (256, 12);
    let mut stream = Key::new(11).fold("bars").stream();
    let mut images = Array4::zeros((n, side, side, 1));
    let labels: Vec<u16> = (0..n).map(|i| (i % 4) as u16).collect();
    for (i, &label) in labels.iter().enumerate() {
        let angle = f64::from(label) * std::f64::consts::FRAC_PI_4 + stream.uniform(-0.2, 0.2);
        let (cx, cy) = (stream.uniform(4.5, 6.5), stream.uniform(4.5, 6.5));
        for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
            let across = (x as f64 - cx) * angle.sin() - (y as f64 - cy) * angle.cos();
            let value = 40.0 * stream.uniform(0.0, 1.0) + if across.abs() < 1.3 { 180.0 } else { 0.0 };
            images[[i, y, x, 0]] = value as u8;
        }
    }
    Arc::new(Dataset::new("bars", images, labels, (0..4).map(|c| c.to_string()).collect()))
}
