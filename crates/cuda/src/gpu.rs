//! One GPU: its context, its stream of work, its kernels and its memory pool.

use crate::absent::Absent;
use crate::cache::Cache;
use crate::capture::Captures;
use crate::compile::{self, Compiler};
use crate::cudnn::Dnn;
use crate::lt::Lt;
use crate::memory::{Block, Held};
use crate::programs::{Element, programs};
use crate::upload::Uploads;
use crate::{Arithmetic, Cuda};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{CUdevice_attribute, CUmemPool_attribute, CUresult};
use cudarc::driver::{CudaContext, CudaFunction, CudaStream};
use cudarc::nvrtc::Ptx;
use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

/// All work runs on one stream, so that program order is its order and freed memory may be given out again at once. It waits
/// for the stream of large copies where it needs what they bring, and for nothing else.
pub(crate) struct Gpu {
    /// Convolutions, where cuDNN is. Dropped before the context.
    pub(crate) dnn: Option<Mutex<Dnn>>,
    pub(crate) context: Arc<CudaContext>,
    pub(crate) stream: Arc<CudaStream>,
    pub(crate) uploads: Uploads,
    /// Held while products are queued: they share one workspace.
    pub(crate) lt: Mutex<Lt>,
    pub(crate) facts: Facts,
    /// How f32 products are computed.
    pub(crate) arithmetic: Arithmetic,
    /// Whether anything is captured.
    pub(crate) graphs: bool,
    compiler: Compiler,
    cache: Cache,
    functions: RwLock<HashMap<(&'static str, Element), CudaFunction>>,
    pub(crate) fault: Fault,
    pub(crate) captures: Captures,
    pub(crate) count: Count,
}

/// What the host asked of the driver, counted.
#[derive(Default)]
pub(crate) struct Count {
    pub(crate) calls: AtomicU64,
    pub(crate) uploads: AtomicU64,
    pub(crate) waits: AtomicU64,
    pub(crate) replays: AtomicU64,
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

/// A word on the GPU that a kernel sets when an operand's values are wrong, read when something is downloaded.
pub(crate) struct Fault {
    pub(crate) word: Held,
    /// Whether a kernel that may set it has run since it was read.
    possible: AtomicBool,
}

impl Fault {
    /// Whether the word has to be read; not again until another kernel may set it.
    pub(crate) fn is_possible(&self) -> bool {
        self.possible.swap(false, Ordering::Relaxed)
    }

    /// Panics if the word that was read tells of a fault.
    #[track_caller]
    pub(crate) fn tell(word: u32) {
        match word {
            0 => {}
            1 => panic!("gather/scatter: an index lies beyond the extent of its axis"),
            _ => panic!("cross_entropy: a label is not below the number of classes"),
        }
    }
}

impl Gpu {
    pub(crate) fn open(how: &Cuda) -> Result<Gpu, Absent> {
        how.places.driver()?;
        let context = CudaContext::new(how.ordinal).map_err(|error| no_device(how.ordinal, &error))?;
        let compiler = Compiler::find(&how.places)?;
        how.places.blas()?;
        if !context.has_async_alloc() {
            let cause = "the card and its driver have no memory pools (CUDA 11.2 and Pascal or newer have)";
            return Err(Absent::failed("opening")(cause.to_owned()));
        }
        // SAFETY: nothing is allocated yet; work goes to one of the streams made below, and copies to the other, whose order
        // `Uploads` keeps by events of its own.
        unsafe { context.disable_event_tracking() };
        let driver = |what| move |error: DriverError| Absent::failed(what)(error.to_string());
        let stream = context.new_stream().map_err(driver("making a stream"))?;
        let uploads = Uploads::new(context.new_stream().map_err(driver("making a stream"))?);
        keep_memory(&context).map_err(driver("setting up the memory pool"))?;
        let dnn = how.cudnn.then(|| Dnn::open(&how.places, &stream)).flatten();
        let mut facts =
            facts(&context, how.ordinal, &compiler).map_err(driver("asking for the card's properties"))?;
        facts.cudnn = dnn.as_ref().map(|_| Dnn::version());
        let lt = Lt::new(&stream).map_err(Absent::failed("opening cuBLASLt"))?;
        let word = Held::new(&stream, 4).map_err(driver("allocating"))?;
        word.zero(&stream).map_err(driver("clearing memory"))?;
        Ok(Gpu {
            dnn: dnn.map(Mutex::new),
            context,
            stream,
            uploads,
            lt: Mutex::new(lt),
            facts,
            arithmetic: how.arithmetic,
            graphs: how.graphs,
            compiler,
            cache: Cache::new(how.places.cache.clone()),
            functions: RwLock::default(),
            fault: Fault { word, possible: AtomicBool::new(false) },
            captures: Captures::default(),
            count: Count::default(),
        })
    }

    /// A kernel, compiled with all others of its file when it is first asked for.
    #[track_caller]
    pub(crate) fn function(&self, kernel: &'static str, element: Element) -> CudaFunction {
        if let Some(function) = self.functions.read().expect("no panic while held").get(&(kernel, element)) {
            return function.clone();
        }
        let program = programs()
            .find(|program| program.element == element && program.kernels.contains(&kernel))
            .unwrap_or_else(|| panic!("there is no kernel {kernel} for {element:?}"));
        let arch = &self.facts.arch;
        let options = compile::options(arch).join(" ");
        let source = program.source();
        let cubin = self
            .cache
            .get(&[&source, &options, &self.compiler.version()], || {
                self.compiler.compile(&program, arch).map(|compiled| compiled.cubin)
            })
            .unwrap_or_else(|error| panic!("{kernel}: {error}"));
        let module = self.expect(kernel, self.context.load_module(Ptx::from_binary(cubin)));
        let load = |name: &&'static str| {
            let full = format!("{name}{}", element.suffix());
            ((*name, element), self.expect(kernel, module.load_function(&full)))
        };
        let loaded: Vec<_> = program.kernels.iter().map(load).collect();
        let mut functions = self.functions.write().expect("no panic while held");
        functions.extend(loaded);
        functions[&(kernel, element)].clone()
    }

    /// The pointer that kernels which check their operands write to.
    pub(crate) fn fault(&self) -> u64 {
        self.fault.possible.store(true, Ordering::Relaxed);
        self.captures.note_fault();
        self.fault.word.pointer()
    }

    /// Waits until all queued work is done.
    pub(crate) fn wait(&self) -> Result<(), DriverError> {
        self.count.waits.fetch_add(1, Ordering::Relaxed);
        self.stream.synchronize()
    }

    /// A failure of the device in the middle of an op is a panic: no caller can do better than to start again from the
    /// last checkpoint.
    #[track_caller]
    pub(crate) fn expect<T, E: Debug>(&self, op: &str, result: Result<T, E>) -> T {
        result.unwrap_or_else(|error| panic!("{op} on {}: {error:?}", self.facts.name))
    }

    /// Whether the card multiplies bf16.
    pub(crate) fn has_bf16(&self) -> bool {
        self.context.compute_capability().is_ok_and(|(major, _)| major >= 8)
    }

    /// Bytes of the memory pool that were in use at most.
    pub(crate) fn peak_memory(&self) -> Option<u64> {
        let mut high = 0u64;
        // SAFETY: the device is valid, and the attribute is an integer of eight bytes.
        unsafe {
            let pool = result::device::get_default_mem_pool(self.context.cu_device()).ok()?;
            let what = CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
            result::mem_pool::get_attribute(pool, what, (&raw mut high).cast()).ok()?;
        }
        Some(high)
    }

    /// Makes [`peak_memory`](Self::peak_memory) start anew; where the driver refuses, it stays an upper bound.
    pub(crate) fn reset_peak_memory(&self) {
        let mut zero = 0u64;
        // SAFETY: the device is valid, and the attribute is an integer of eight bytes that may be set to 0 alone.
        let _ = unsafe {
            result::device::get_default_mem_pool(self.context.cu_device()).and_then(|pool| {
                let what = CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
                result::mem_pool::set_attribute(pool, what, (&raw mut zero).cast())
            })
        };
    }

    #[track_caller]
    pub(crate) fn block(self: &Arc<Self>, op: &str, bytes: usize) -> Block {
        self.expect(op, Block::new(self, bytes))
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        self.context.record_err(self.context.bind_to_thread());
        self.fault.word.free(&self.stream);
        self.lt.get_mut().expect("no panic while held").free(&self.stream);
    }
}

impl Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cuda:{} ({})", self.facts.ordinal, self.facts.name)
    }
}

fn no_device(ordinal: usize, error: &DriverError) -> Absent {
    match error.0 {
        CUresult::CUDA_ERROR_NO_DEVICE | CUresult::CUDA_ERROR_INVALID_DEVICE => {
            let count = CudaContext::device_count().map_or(0, |count| count.max(0) as usize);
            Absent::NoDevice { ordinal, count }
        }
        _ => Absent::failed("opening")(error.to_string()),
    }
}

/// Without this every synchronization hands unused memory back to the system, and the next step pays for it again.
fn keep_memory(context: &CudaContext) -> Result<(), DriverError> {
    let mut keep = u64::MAX;
    // SAFETY: the device is valid, and the attribute is an integer of eight bytes.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device())?;
        let what = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, what, (&raw mut keep).cast())
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
        cublas: Lt::version(),
        cudnn: None,
    })
}
