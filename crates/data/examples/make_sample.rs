//! Makes `datasets/fashion-mnist-sample/` from the full Fashion-MNIST, bit for bit.
//!
//! The rule: of every class the first 1,000 training and the first 200 test images, all in the
//! official order. The files are gzipped at level 9 without a time stamp.
//!
//! ```sh
//! cargo run --release -p tarrl-data --example make_sample -- DATA_FOLDER OUTPUT_FOLDER
//! ```
//!
//! Both folders may be left out: `data`, and the place of the sample in this repository.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use tarrl_data::{Catalog, Dataset, idx};

fn main() -> Result<(), Box<dyn Error>> {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets");
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let data = arguments.next().unwrap_or_else(|| "data".into());
    let out = arguments.next().unwrap_or_else(|| manifests.join("fashion-mnist-sample"));
    let full = Catalog::new(manifests, data).load("fashion-mnist")?;
    fs::create_dir_all(&out)?;
    write(&out, "train", &full.train.first_per_class(1000)?)?;
    write(&out, "t10k", &full.test.first_per_class(200)?)
}

fn write(out: &Path, split: &str, part: &Dataset) -> Result<(), Box<dyn Error>> {
    let images = out.join(format!("{split}-images-idx3-ubyte.gz"));
    gzip(&images, |file| idx::write_images(file, part.images.view()))?;
    let labels = out.join(format!("{split}-labels-idx1-ubyte.gz"));
    gzip(&labels, |file| idx::write_labels(file, &part.labels))?;
    let (mean, std) = part.channel_statistics()[0];
    writeln!(io::stdout(), "{split}: {} images, mean {mean:.4}, standard deviation {std:.4}", part.len())?;
    Ok(())
}

fn gzip(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut packed = GzBuilder::new().mtime(0).write(File::create(path)?, Compression::best());
    fill(&mut packed)?;
    packed.finish()?.sync_all()
}
