//! NVRTC, NVIDIA's runtime compiler: from kernel source to machine code.

use super::Places;
use crate::error::CudaError;
use crate::kernels::KernelSource;
use cudarc::nvrtc::{result, sys};
use std::ffi::{CStr, CString, c_char};

/// What the compiler made of a kernel source.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Machine code.
    pub cubin: Vec<u8>,
    /// What the compiler and the assembler said: warnings, and registers and spills of each kernel.
    pub log: String,
}

/// NVIDIA's runtime compiler.
#[derive(Clone, Copy, Debug)]
pub struct Compiler {
    version: (i32, i32),
}

impl Compiler {
    /// Looks for the compiler. It needs neither driver nor GPU.
    ///
    /// # Errors
    /// [`CudaError`], saying where it was searched for and what to install.
    pub fn find(places: &Places) -> Result<Compiler, CudaError> {
        places.compiler()?;
        let mut version = (0, 0);
        // SAFETY: both pointers are to integers that outlive the call.
        let status = unsafe { sys::nvrtcVersion(&mut version.0, &mut version.1) };
        status
            .result()
            .map_err(|error| format!("{error:?}"))
            .map_err(CudaError::failed("asking NVRTC for its version"))?;
        Ok(Compiler { version })
    }

    /// Such as `13.0`.
    pub fn version(&self) -> String {
        format!("{}.{}", self.version.0, self.version.1)
    }

    /// Machine code of `source` for an architecture such as `sm_90`.
    ///
    /// # Errors
    /// [`CudaError::Kernel`] with the compiler's log.
    pub fn compile(&self, source: &KernelSource, arch: &str) -> Result<Compiled, CudaError> {
        self.try_compile(source, arch).map_err(|log| CudaError::Kernel {
            file: source.file,
            arch: arch.to_owned(),
            log,
            version: self.version(),
        })
    }

    fn try_compile(&self, kernels: &KernelSource, arch: &str) -> Result<Compiled, String> {
        let source = CString::new(kernels.source()).expect("kernel texts have no zero byte");
        let name = CString::new(format!("{}.cu", kernels.file)).expect("file names have no zero byte");
        let handle = result::create_program(&source, Some(&name)).map_err(|error| format!("{error:?}"))?;
        let compiled = compile(handle, &options(arch));
        // SAFETY: the handle was made above and is not used again.
        let destroyed = unsafe { result::destroy_program(handle) };
        destroyed.map_err(|error| format!("{error:?}"))?;
        compiled
    }
}

/// The options of the compiler: products and sums are not contracted, so that arithmetic rounds as on the CPU and a
/// value that is computed twice has the same bits in two kernels.
pub(crate) fn options(arch: &str) -> [String; 4] {
    [
        format!("--gpu-architecture={arch}"),
        "--fmad=false".into(),
        "--std=c++17".into(),
        "--ptxas-options=--verbose".into(),
    ]
}

fn compile(handle: sys::nvrtcProgram, options: &[String]) -> Result<Compiled, String> {
    // SAFETY: the handle is valid, by the caller.
    let status = unsafe { result::compile_program(handle, options) };
    // SAFETY: as above.
    let log = unsafe { result::get_program_log(handle) }.map(|log| text(&log)).unwrap_or_default();
    status.map_err(|error| format!("{error:?}\n{log}"))?;
    let mut size = 0;
    // SAFETY: the handle is valid and compiled, and the pointer is to an integer that outlives the call.
    unsafe { sys::nvrtcGetCUBINSize(handle, &mut size) }.result().map_err(|error| format!("{error:?}"))?;
    let mut cubin = vec![0u8; size];
    // SAFETY: the vector has room for as many bytes as the compiler asked for.
    unsafe { sys::nvrtcGetCUBIN(handle, cubin.as_mut_ptr().cast::<c_char>()) }
        .result()
        .map_err(|error| format!("{error:?}"))?;
    Ok(Compiled { cubin, log })
}

fn text(log: &[c_char]) -> String {
    let bytes: Vec<u8> = log.iter().map(|&c| c as u8).collect();
    CStr::from_bytes_until_nul(&bytes).map(|log| log.to_string_lossy().trim().to_owned()).unwrap_or_default()
}
