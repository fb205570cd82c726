//! Scratch folders and devices: inputs as files, for readers that take a path, and tensors in memory of their own.

use std::path::PathBuf;
use tarrl_tensor::{Arithmetic, Cpu, Device};

/// A folder that is removed when it is dropped, and a device.
pub struct Scratch {
    folder: tempfile::TempDir,
    /// The CPU with one thread: what is computed is small, and other inputs have the other processors.
    pub device: Device,
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch::new()
    }
}

impl Scratch {
    /// An empty folder and a new device.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Scratch { folder, device: Cpu { threads: 1, arithmetic: Arithmetic::Direct }.open() }
    }

    /// The path of a file in it; folders above are made.
    ///
    /// # Panics
    /// If these cannot be made.
    pub fn path(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        if name.contains('/') {
            std::fs::create_dir_all(path.parent().expect("it lies in the folder")).expect("it is writable");
        }
        path
    }

    /// A file with these bytes, in place of what was there under that name.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("the scratch folder is writable");
        path
    }
}
