//! One GPU: its context, its compiled kernels, and the libraries of products and convolutions.

use crate::driver::Context;
use crate::error::CudaError;
use crate::kernels::cache::Cache;
use crate::kernels::{Element, kernel_sources};
use crate::libraries::cublaslt::CublasLt;
use crate::libraries::cudnn::Cudnn;
use crate::libraries::nvrtc::{self, Compiler};
use crate::options::{Arithmetic, Cuda};
use cudarc::driver::result::DriverError;
use cudarc::driver::sys::{CUdevice_attribute, CUresult};
use cudarc::driver::{CudaContext, CudaFunction};
use cudarc::nvrtc::Ptx;
use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::ops::Deref;
use std::sync::{Arc, Mutex, RwLock};

/// A context with what computes on it. Blocks of memory refer to the context alone.
pub(crate) struct Gpu {
    /// Convolutions, where cuDNN is. Dropped before the context.
    pub(crate) cudnn: Option<Mutex<Cudnn>>,
    /// Products; locked while they are queued, because they share one workspace.
    pub(crate) cublaslt: Mutex<CublasLt>,
    pub(crate) facts: Facts,
    /// How f32 products are computed.
    pub(crate) arithmetic: Arithmetic,
    /// Whether anything is captured.
    pub(crate) graphs: bool,
    compiler: Compiler,
    cache: Cache,
    functions: RwLock<HashMap<(&'static str, Element), CudaFunction>>,
    driver: Arc<Context>,
}

impl Deref for Gpu {
    type Target = Arc<Context>;

    fn deref(&self) -> &Arc<Context> {
        &self.driver
    }
}

/// What is known of a GPU and of the libraries that drive it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Such as `NVIDIA H200`.
    pub name: String,
    /// Its place among the GPUs of the machine.
    pub ordinal: usize,
    /// Such as `sm_90`.
    pub arch: String,
    /// Multiprocessors.
    pub processors: usize,
    /// Bytes of memory.
    pub memory: usize,
    /// The newest CUDA that the driver knows, such as `13.0`.
    pub driver: String,
    /// The compiler of kernels, such as `13.0`.
    pub nvrtc: String,
    /// The library of matrix products, such as `13.0.2`.
    pub cublas: String,
    /// The library of convolutions, such as `9.21.0`; `None` if convolutions are products of patches.
    pub cudnn: Option<String>,
}

impl Facts {
    /// For records.
    pub(crate) fn list(&self) -> Vec<(String, String)> {
        [
            ("gpu", &self.name),
            ("architecture", &self.arch),
            ("CUDA of the driver", &self.driver),
            ("NVRTC", &self.nvrtc),
            ("cuBLAS", &self.cublas),
        ]
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .into()
    }
}

impl Gpu {
    pub(crate) fn open(how: &Cuda) -> Result<Gpu, CudaError> {
        how.places.driver()?;
        let context = CudaContext::new(how.ordinal).map_err(|error| no_device(how.ordinal, &error))?;
        let compiler = Compiler::find(&how.places)?;
        how.places.blas()?;
        if !context.has_async_alloc() {
            let cause = "the card and its driver have no memory pools (CUDA 11.2 and Pascal or newer have)";
            return Err(CudaError::failed("opening")(cause.to_owned()));
        }
        let driver = |what| move |error: DriverError| CudaError::failed(what)(error.to_string());
        let context = Context::new(context, how.ordinal).map_err(driver("setting up streams and memory"))?;
        let cudnn = how.cudnn.then(|| Cudnn::open(&how.places, &context.stream)).flatten();
        let mut facts = facts(&context.context, how.ordinal, &compiler)
            .map_err(driver("asking for the card's properties"))?;
        facts.cudnn = cudnn.as_ref().map(|_| Cudnn::version());
        let cublaslt = CublasLt::new(&context.stream)?;
        Ok(Gpu {
            cudnn: cudnn.map(Mutex::new),
            cublaslt: Mutex::new(cublaslt),
            facts,
            arithmetic: how.arithmetic,
            graphs: how.graphs,
            compiler,
            cache: Cache::new(how.places.cache.clone()),
            functions: RwLock::default(),
            driver: Arc::new(context),
        })
    }

    /// A kernel, compiled with all others of its file when it is first asked for.
    #[track_caller]
    pub(crate) fn function(&self, kernel: &'static str, element: Element) -> CudaFunction {
        if let Some(function) = self.functions.read().expect("no panic while held").get(&(kernel, element)) {
            return function.clone();
        }
        let source = kernel_sources()
            .find(|source| source.element == element && source.kernels.contains(&kernel))
            .unwrap_or_else(|| panic!("there is no kernel {kernel} for {element:?}"));
        let arch = &self.facts.arch;
        let options = nvrtc::options(arch).join(" ");
        let text = source.source();
        let cubin = self
            .cache
            .get(&[&text, &options, &self.compiler.version()], || {
                self.compiler.compile(&source, arch).map(|compiled| compiled.cubin)
            })
            .unwrap_or_else(|error| panic!("{kernel}: {error}"));
        let module = self.expect(kernel, self.driver.context.load_module(Ptx::from_binary(cubin)));
        let load = |name: &&'static str| {
            let full = format!("{name}{}", element.suffix());
            ((*name, element), self.expect(kernel, module.load_function(&full)))
        };
        let loaded: Vec<_> = source.kernels.iter().map(load).collect();
        let mut functions = self.functions.write().expect("no panic while held");
        functions.extend(loaded);
        functions[&(kernel, element)].clone()
    }

    /// Whether the card multiplies bf16.
    pub(crate) fn has_bf16(&self) -> bool {
        self.driver.context.compute_capability().is_ok_and(|(major, _)| major >= 8)
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        let driver = &self.driver;
        driver.context.record_err(driver.context.bind_to_thread());
        self.cublaslt.get_mut().expect("no panic while held").free(&driver.stream);
    }
}

impl Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(&*self.driver, f)
    }
}

pub(crate) fn no_device(ordinal: usize, error: &DriverError) -> CudaError {
    match error.0 {
        CUresult::CUDA_ERROR_NO_DEVICE | CUresult::CUDA_ERROR_INVALID_DEVICE => {
            let count = CudaContext::device_count().map_or(0, |count| count.max(0) as usize);
            CudaError::NoDevice { ordinal, count }
        }
        _ => CudaError::failed("opening")(error.to_string()),
    }
}

fn facts(context: &CudaContext, ordinal: usize, compiler: &Compiler) -> Result<Facts, DriverError> {
    let (major, minor) = context.compute_capability()?;
    let processors = context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
    let mut version = 0;
    // SAFETY: the pointer is to an integer that outlives the call.
    unsafe { cudarc::driver::sys::cuDriverGetVersion(&mut version) }.result()?;
    Ok(Facts {
        name: context.name()?,
        ordinal,
        arch: format!("sm_{major}{minor}"),
        processors: processors.max(1) as usize,
        memory: context.total_mem()?,
        driver: format!("{}.{}", version / 1000, version % 1000 / 10),
        nvrtc: compiler.version(),
        cublas: CublasLt::version(),
        cudnn: None,
    })
}
