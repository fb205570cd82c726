//! One end of a communicator: a stream of its own on a device, with memory for what is sent and received there.

use crate::error::CudaError;
use crate::gpu::no_device;
use crate::libraries::Places;
use crate::libraries::nccl::{Communicator, ID_BYTES, Nccl};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{CUresult, cuStreamQuery};
use cudarc::driver::{CudaContext, CudaStream};
use std::sync::Arc;
use std::time::Duration;

/// How long the end of a training waits for the other ends of the communicator.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// What is done with the numbers of all ranks.
pub(super) enum Exchange<'a> {
    /// All bytes, in the order of ranks.
    Gather(&'a [u8]),
    /// As [`Gather`](Exchange::Gather), of numbers.
    GatherNumbers(&'a [f32]),
    /// Their sum, in an order that NCCL chooses.
    Sum(&'a [f32]),
}

/// A device as one rank of a communicator.
pub(super) struct Endpoint {
    nccl: Arc<Nccl>,
    communicator: Option<Communicator>,
    sent: Memory,
    received: Memory,
    stream: Arc<CudaStream>,
    context: Arc<CudaContext>,
}

impl Endpoint {
    /// Opens the device and the library, and connects nothing yet.
    pub(super) fn open(ordinal: usize, places: &Places) -> Result<Endpoint, CudaError> {
        places.driver()?;
        let nccl = Arc::new(Nccl::open(places)?);
        let context = CudaContext::new(ordinal).map_err(|error| no_device(ordinal, &error))?;
        let failed = |error: DriverError| CudaError::failed("making a stream for NCCL")(error.to_string());
        let stream = context.new_stream().map_err(failed)?;
        let [sent, received] = [Memory::default(), Memory::default()];
        Ok(Endpoint { nccl, communicator: None, sent, received, stream, context })
    }

    pub(super) fn version(&self) -> u32 {
        self.nccl.version()
    }

    /// The bytes by which all ranks find each other, made by one of them.
    pub(super) fn id(&self) -> Result<[u8; ID_BYTES], String> {
        self.bind()?;
        self.nccl.id()
    }

    /// Begins to connect to the other ranks; [`is_done`](Self::is_done) says when that is over.
    pub(super) fn connect(&mut self, id: [u8; ID_BYTES], place: [usize; 2]) -> Result<(), String> {
        self.bind()?;
        self.communicator = Some(self.nccl.connect(id, place)?);
        Ok(())
    }

    /// Queues an exchange with `ranks` ranks, whose result is there when [`is_done`](Self::is_done) says so.
    pub(super) fn begin(&mut self, exchange: &Exchange<'_>, ranks: usize) -> Result<(), String> {
        self.bind()?;
        let communicator = self.communicator.as_ref().ok_or("there is no communicator")?;
        let stream = self.stream.cu_stream();
        match exchange {
            Exchange::Gather(mine) => self.sent.fill(mine, &self.stream),
            Exchange::GatherNumbers(mine) | Exchange::Sum(mine) => self.sent.fill(mine, &self.stream),
        }
        .and_then(|()| self.received.grow(exchange.bytes() * exchange.copies(ranks)))
        .map_err(|error| error.to_string())?;
        let (from, to, bytes) = (self.sent.pointer, self.received.pointer, exchange.bytes());
        match exchange {
            // SAFETY: both blocks were made as large as that above; they are freed or filled again by `&mut` functions of this
            // type alone, which are called when the stream has done its work or the communicator was ended.
            Exchange::Gather(_) | Exchange::GatherNumbers(_) => unsafe {
                communicator.gather(from, to, bytes, stream)
            },
            // SAFETY: as above.
            Exchange::Sum(mine) => unsafe { communicator.sum(from, to, mine.len(), stream) },
        }
    }

    /// Whether everything that was begun is done. Never waits.
    pub(super) fn is_done(&self) -> Result<bool, String> {
        self.bind()?;
        let communicator = self.communicator.as_ref().ok_or("there is no communicator")?;
        if !communicator.is_ready()? {
            return Ok(false);
        }
        // SAFETY: the stream lives.
        match unsafe { cuStreamQuery(self.stream.cu_stream()) } {
            CUresult::CUDA_SUCCESS => Ok(true),
            CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            error => Err(DriverError(error).to_string()),
        }
    }

    /// Copies the result of what is done.
    pub(super) fn result<T: Copy>(&self, to: &mut [T]) -> Result<(), String> {
        self.bind()?;
        self.received.read(to, &self.stream).map_err(|error| error.to_string())
    }

    /// Ends it without the other ranks.
    pub(super) fn abort(&mut self) {
        let _ = self.bind();
        self.communicator.take().into_iter().for_each(Communicator::abort);
    }

    /// Shards of a process take turns, each on a thread of its own.
    fn bind(&self) -> Result<(), String> {
        self.context.bind_to_thread().map_err(|error| error.to_string())
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // Whatever fails here concerns nobody any more.
        let _ = self.bind();
        self.communicator.take().into_iter().for_each(|communicator| communicator.end(LAST_WAIT));
        self.sent.free();
        self.received.free();
    }
}

impl Exchange<'_> {
    /// Bytes of each rank.
    fn bytes(&self) -> usize {
        match self {
            Exchange::Gather(mine) => mine.len(),
            Exchange::GatherNumbers(mine) | Exchange::Sum(mine) => size_of_val(*mine),
        }
    }

    /// How many times that the result has.
    fn copies(&self, ranks: usize) -> usize {
        if let Exchange::Sum(_) = self { 1 } else { ranks }
    }
}

/// Device memory that is kept for the next exchange. It is of no pool, because peers on one machine may read it directly.
#[derive(Default)]
struct Memory {
    pointer: u64,
    bytes: usize,
}

impl Memory {
    /// Makes it at least so large; what it held is lost if it grows.
    fn grow(&mut self, bytes: usize) -> Result<(), DriverError> {
        if self.bytes < bytes.max(1) {
            self.free();
            // SAFETY: the caller has made a context current, that of all calls.
            self.pointer = unsafe { result::malloc_sync(bytes.max(1)) }?;
            self.bytes = bytes.max(1);
        }
        Ok(())
    }

    /// Copies from the host.
    fn fill<T: Copy>(&mut self, data: &[T], stream: &CudaStream) -> Result<(), DriverError> {
        self.grow(size_of_val(data))?;
        // SAFETY: there are so many bytes. From memory that is not pinned the driver returns when it has taken all of the
        // slice.
        unsafe { result::memcpy_htod_async(self.pointer, data, stream.cu_stream()) }
    }

    /// Copies to the host.
    fn read<T: Copy>(&self, to: &mut [T], stream: &CudaStream) -> Result<(), DriverError> {
        assert!(size_of_val(to) <= self.bytes, "a copy of more bytes than were received");
        // SAFETY: there are so many bytes, and the slice lives until the stream has been waited for.
        unsafe { result::memcpy_dtoh_async(to, self.pointer, stream.cu_stream()) }?;
        stream.synchronize()
    }

    fn free(&mut self) {
        self.bytes = 0;
        let pointer = std::mem::take(&mut self.pointer);
        if pointer != 0 {
            // SAFETY: made by `grow` and not used again. A failure concerns nobody: the process is at its end.
            let _ = unsafe { result::free_sync(pointer) };
        }
    }
}
