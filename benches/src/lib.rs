//! Benchmark workloads: steps of training, attack and inference on the real encoders, and how their operations are counted.
//!
//! ```text
//! GFLOP/s = 2 · multiply-adds of one image · images · passes / seconds / 10⁹
//! ```
//!
//! The multiply-adds are those of convolutions and matrix products, read from the graph that the encoder records; passes
//! are given by [`Activity::passes`]. So the figure is work that the mathematics asks for, whatever algorithm does
//! it, and is comparable between programs.
//!
//! ```
//! use tarrl_benches::{Step, Workload, median, time};
//! use tarrl_tensor::cpu;
//!
//! let workload: Workload = "input-grad:conv-small".parse().unwrap();
//! let mut step = Step::new(workload, 2, &cpu()); // two images
//! assert_eq!(step.flops(), 2 * 14_676_480 * 2 * 2); // a multiply and an add, two images, forward and backward
//! let seconds = median(&time(&mut step, 3));
//! println!("{:.1} GFLOP/s", step.flops() as f64 / seconds / 1e9);
//! ```
//!
//! - A [`Workload`] is an [`Activity`] on an encoder; a [`Step`] is a workload ready to run.
//! - [`layers`] are the convolutions of an encoder, for the benches of single kernels.
//! - A [`Task`] is whole work that other programs do too, and [`peers`] compares both with them.
//! - `tarrl bench` prints one workload's speed and memory; `cargo bench -p tarrl-benches` runs criterion.

#![forbid(unsafe_code)]

mod layers;
pub mod peers;
mod ssl;
mod step;
mod tasks;
mod timing;
mod values;
mod workload;

pub use layers::{distinct, label, layers};
pub use step::Step;
pub use tasks::{PreparedTask, Task};
pub use timing::{median, time, time_once};
pub use values::uniform;
pub use workload::{Activity, Workload, encoder_config, image_shape};

/// The root of the repository, where images, methods and the peers' programs are.
fn repository() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies inside the repository")
}
