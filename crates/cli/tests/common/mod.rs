//! Files that the program is tried on: an encoder and a head.
#![allow(dead_code, reason = "not every test file uses everything")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tarrl_data::{Catalog, Splits};
use tarrl_encoders::{Encoder, EncoderConfig, checkpoint::save_encoder};
use tarrl_eval::{nearest_centroid, pixels};
use tarrl_jobs::files::hash;
use tarrl_study::stages::head::HeadFile;
use tarrl_tensor::{Key, cpu};

/// A small encoder that has learned nothing, and a head on it that has.
pub(crate) struct Files {
    folder: tempfile::TempDir,
    pub(crate) checkpoint: PathBuf,
    pub(crate) head: PathBuf,
}

impl Files {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (checkpoint, head) =
            (folder.path().join("encoder.safetensors"), folder.path().join("head.safetensors"));
        let config = EncoderConfig { width: 0.1, ..EncoderConfig::default() };
        let encoder = Encoder::new(&config, &cpu(), Key::new(1));
        save_encoder(&checkpoint, &encoder, &Default::default()).unwrap();
        let train = dataset().train;
        let seen: Vec<usize> = (0..300).collect();
        let labels: Vec<u32> = seen.iter().map(|&i| u32::from(train.labels[i])).collect();
        let features = encoder.inference().forward(&pixels(&train, &seen, &cpu()));
        let file = HeadFile {
            head: nearest_centroid(&features, &labels, 10).unwrap(),
            encoder: Some(hash(&checkpoint).unwrap()),
        };
        file.save(&head).unwrap();
        Files { folder, checkpoint, head }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self, output: &Path, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tarrl"));
        command.args(["attack", "--dataset", "fashion-mnist-sample", "--images", "20", "--save-every", "0"]);
        command.arg("--checkpoint").arg(&self.checkpoint).arg("--head").arg(&self.head);
        command.arg("--json").arg(output).args(options);
        command
    }

    pub(crate) fn run(&self, output: &Path, options: &[&str]) -> Output {
        self.command(output, options).output().unwrap()
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn state_of(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".state");
    name.into()
}

/// The embedded sample.
pub(crate) fn dataset() -> Splits {
    let datasets = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("datasets");
    Catalog::new(datasets, "data").load("fashion-mnist-sample").unwrap()
}
