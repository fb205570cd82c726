//! Measures how many strong views one thread prepares per second.
//!
//! ```sh
//! cargo run --release -p tarrl-data --example augment_speed
//! ```

use std::hint::black_box;
use std::io::{self, Write};
use std::time::Instant;

use tarrl_data::augment::{Augmenter, SampledTransform, View};
use tarrl_data::view_key;
use tarrl_tensor::Key;

fn main() -> io::Result<()> {
    for shape in [(28, 28, 1), (32, 32, 3)] {
        let size = shape.0 * shape.1 * shape.2;
        let mut stream = Key::new(0).stream();
        let images: Vec<u8> = (0..256 * size).map(|_| stream.below(256) as u8).collect();
        let recipe = View::Strong.recipe(shape);
        let (mut augmenter, mut out) = (Augmenter::new(shape), vec![0.0; 256 * size]);
        let rounds = 200;
        let began = Instant::now();
        for round in 0..rounds {
            for (i, (image, out)) in images.chunks_exact(size).zip(out.chunks_exact_mut(size)).enumerate() {
                let transform =
                    SampledTransform::sample(&recipe, shape, view_key(Key::new(1), (round, i, 0)));
                augmenter.apply(image, &transform, out);
            }
            black_box(&out);
        }
        let rate = (rounds * 256) as f64 / began.elapsed().as_secs_f64();
        let (h, w, c) = shape;
        writeln!(io::stdout(), "{h}×{w}×{c}: {rate:.0} strong views per second on one thread")?;
    }
    Ok(())
}
