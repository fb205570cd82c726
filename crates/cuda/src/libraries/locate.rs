//! Shared libraries of NVIDIA, located and opened. The only file of this crate that reads the environment.
//!
//! Python packages and toolkits keep libraries in folders that the loader does not search. A library that has been
//! opened once by its full path answers to its bare name from then on, so everything is opened here first.

use crate::error::CudaError;
use cudarc::{cublaslt, cudnn, driver, nvrtc};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where libraries are looked for and where compiled kernels are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Folders with shared libraries, in the order of preference.
    pub libraries: Vec<PathBuf>,
    /// Whether to ask `python3` for the folders of its packages if a library is in none of `libraries`.
    pub ask_python: bool,
    /// The folder for compiled kernels; `None` compiles them every time.
    pub cache: Option<PathBuf>,
}

impl Places {
    /// The folders of this machine.
    ///
    /// Libraries: those of `TARRL_CUDA_LIBRARIES` (separated by colons), of `CUDA_HOME`, `CUDA_PATH` and
    /// `/usr/local/cuda`, of the Python packages in `VIRTUAL_ENV` and `CONDA_PREFIX`, and of WSL.
    /// Compiled kernels: `TARRL_CUDA_CACHE`, or `tarrl/cuda` in `XDG_CACHE_HOME` or in `.cache` of `HOME`.
    pub fn usual() -> Places {
        let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let mut libraries: Vec<PathBuf> = env::var_os("TARRL_CUDA_LIBRARIES")
            .map(|value| env::split_paths(&value).filter(|path| !path.as_os_str().is_empty()).collect())
            .unwrap_or_default();
        let toolkits = [folder("CUDA_HOME"), folder("CUDA_PATH"), Some(PathBuf::from("/usr/local/cuda"))]
            .into_iter()
            .flatten();
        libraries.extend(toolkits.map(|toolkit| toolkit.join("lib64")));
        for prefix in ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(folder) {
            for python in subfolders(&prefix.join("lib")) {
                libraries.extend(packages(&python.join("site-packages")));
            }
        }
        libraries.push(PathBuf::from("/usr/lib/wsl/lib"));
        libraries.retain(|folder| folder.is_dir());
        let cache = folder("TARRL_CUDA_CACHE")
            .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("tarrl/cuda")))
            .or_else(|| folder("HOME").map(|home| home.join(".cache/tarrl/cuda")));
        Places { libraries, ask_python: true, cache }
    }

    /// Opens the driver's library.
    ///
    /// # Errors
    /// [`CudaError::NoDriver`] if it is nowhere.
    pub(crate) fn driver(&self) -> Result<(), CudaError> {
        open_first(&self.libraries, "libcuda.so.1", "");
        // SAFETY: opens and closes a shared library, nothing else.
        if unsafe { driver::sys::is_culib_present() } {
            return Ok(());
        }
        Err(CudaError::NoDriver { searched: self.libraries.clone() })
    }

    /// Opens the runtime compiler.
    ///
    /// # Errors
    /// [`CudaError::NoLibrary`] if it is nowhere.
    pub(crate) fn compiler(&self) -> Result<(), CudaError> {
        // SAFETY: opens and closes a shared library, nothing else.
        self.toolkit("libnvrtc", "nvidia-cuda-nvrtc", "libnvrtc-builtins.so.", || unsafe {
            nvrtc::sys::is_culib_present()
        })
    }

    /// Opens the matrix products.
    ///
    /// # Errors
    /// [`CudaError::NoLibrary`] if they are nowhere.
    pub(crate) fn blas(&self) -> Result<(), CudaError> {
        // SAFETY: opens and closes a shared library, nothing else.
        self.toolkit("libcublasLt", "nvidia-cublas", "", || unsafe { cublaslt::sys::is_culib_present() })
    }

    /// Opens the convolutions, and says whether they are anywhere.
    pub(crate) fn dnn(&self) -> bool {
        let file = "libcudnn.so.9";
        // SAFETY: opens and closes a shared library, nothing else.
        let present = || unsafe { cudnn::sys::is_culib_present() };
        open_first(&self.libraries, file, "");
        present() || (self.ask_python && open_first(&python_packages(), file, "") && present())
    }

    /// Opens NCCL, whose file has a name that cudarc does not look for.
    ///
    /// # Errors
    /// [`CudaError::NoNccl`] if it is nowhere.
    pub(crate) fn nccl(&self) -> Result<libloading::Library, CudaError> {
        let file = "libnccl.so.2";
        // SAFETY: NVIDIA's library, and the emulator's, only initialize themselves when they are loaded.
        let bare = || unsafe { libloading::Library::new(file) }.ok();
        let mut searched = self.libraries.clone();
        open_first(&searched, file, "");
        if let Some(library) = bare() {
            return Ok(library);
        }
        if self.ask_python {
            let more = python_packages();
            open_first(&more, file, "");
            searched.extend(more);
        }
        bare().ok_or(CudaError::NoNccl { searched })
    }

    fn toolkit(
        &self,
        name: &'static str,
        packages: &'static str,
        companion: &str,
        present: impl Fn() -> bool,
    ) -> Result<(), CudaError> {
        let mut searched = self.libraries.clone();
        let file = format!("{name}.so.13");
        open_first(&searched, &file, companion);
        if present() {
            return Ok(());
        }
        if self.ask_python {
            let more = python_packages();
            open_first(&more, &file, companion);
            if present() {
                return Ok(());
            }
            searched.extend(more);
        }
        Err(CudaError::NoLibrary { name, packages, searched })
    }
}

/// Opens `file` from the first folder that has it, after its companion there, and keeps it open for good.
fn open_first(folders: &[PathBuf], file: &str, companion: &str) -> bool {
    let Some(folder) = folders.iter().find(|folder| folder.join(file).is_file()) else { return false };
    if !companion.is_empty() {
        for path in entries(folder).into_iter().filter(|path| file_name(path).starts_with(companion)) {
            open(&path);
        }
    }
    open(&folder.join(file))
}

#[cfg(unix)]
fn open(path: &Path) -> bool {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    // SAFETY: NVIDIA's libraries, and the emulator's, only initialize themselves when they are loaded.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
    // Kept open until the process ends: that is what makes the bare name known.
    library.map(std::mem::forget).is_ok()
}

#[cfg(not(unix))]
fn open(path: &Path) -> bool {
    // SAFETY: NVIDIA's libraries only initialize themselves when they are loaded.
    let library = unsafe { libloading::Library::new(path) };
    library.map(std::mem::forget).is_ok()
}

/// The folders of NVIDIA's Python packages: `nvidia/*/lib`.
fn packages(site: &Path) -> Vec<PathBuf> {
    subfolders(&site.join("nvidia"))
        .into_iter()
        .map(|package| package.join("lib"))
        .filter(|lib| lib.is_dir())
        .collect()
}

fn python_packages() -> Vec<PathBuf> {
    let script = "import site, sysconfig; print('\\n'.join([sysconfig.get_path('purelib'), site.getusersitepackages()]))";
    let Ok(output) = Command::new("python3").args(["-c", script]).output() else { return Vec::new() };
    String::from_utf8_lossy(&output.stdout).lines().flat_map(|site| packages(Path::new(site))).collect()
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    entries(folder).into_iter().filter(|path| path.is_dir()).collect()
}

/// What a folder holds, in the order of names; nothing if it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_python_are_found_by_their_layout() {
        let site = tempfile::tempdir().unwrap();
        for folder in ["nvidia/cu13/lib", "nvidia/cudnn/lib", "nvidia/empty", "other/lib"] {
            fs::create_dir_all(site.path().join(folder)).unwrap();
        }
        let found = packages(site.path());
        assert_eq!(found, ["nvidia/cu13/lib", "nvidia/cudnn/lib"].map(|folder| site.path().join(folder)));
    }

    #[test]
    fn a_file_that_is_no_library_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("libnothing.so.13"), "no library").unwrap();
        assert!(!open_first(&[folder.path().to_owned()], "libnothing.so.13", ""));
        assert!(!open_first(&[], "libnothing.so.13", ""));
    }
}
