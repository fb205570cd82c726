//! Memory blocks of arrays and intermediate results: copies from and to the host, and freeing in the order of the stream.

use super::allocation::DeviceAllocation;
use super::context::{Arena, Context};
use super::fault::Fault;
use cudarc::driver::result::{self, DriverError};
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use tarrl_tensor::{Array, HostSlice};

/// The memory of an array or of an intermediate result.
pub(crate) struct Block {
    allocation: DeviceAllocation,
    context: Arc<Context>,
    /// The memory of a captured function, to which this goes back.
    arena: Option<Arc<Arena>>,
    /// The same matrix transposed, once somebody asked for it.
    transposed: OnceLock<Box<Block>>,
}

impl Block {
    /// Uninitialized memory.
    #[track_caller]
    pub(crate) fn new(context: &Arc<Context>, bytes: usize) -> Result<Block, DriverError> {
        let (allocation, arena) = context.memory(bytes)?;
        Ok(Block { allocation, context: context.clone(), arena, transposed: OnceLock::new() })
    }

    /// A copy of host memory.
    #[track_caller]
    pub(crate) fn upload<T: Copy>(context: &Arc<Context>, data: &[T]) -> Result<Block, DriverError> {
        context.forbid_capture("an upload");
        // A function that is captured leaves its memory in its arena.
        if !context.captures.is_open()
            && let Some(allocation) = context.upload_pinned(data)?
        {
            context.counters.uploads.fetch_add(1, Ordering::Relaxed);
            return Ok(Block {
                allocation,
                context: context.clone(),
                arena: None,
                transposed: OnceLock::new(),
            });
        }
        let block = Block::new(context, size_of_val(data))?;
        block.fill(data)?;
        Ok(block)
    }

    /// As [`upload`](Block::upload), of numbers of any type.
    #[track_caller]
    pub(crate) fn of(context: &Arc<Context>, data: HostSlice<'_>) -> Result<Block, DriverError> {
        match data {
            HostSlice::F32(data) => Block::upload(context, data),
            HostSlice::F64(data) => Block::upload(context, data),
            HostSlice::U32(data) => Block::upload(context, data),
        }
    }

    /// As [`of`](Block::of), in memory of no arena: it outlives the run of a captured function that first asks for it.
    ///
    /// # Panics
    /// In a run that is recorded, whose rehearsal did not ask for it.
    #[track_caller]
    pub(crate) fn table(context: &Arc<Context>, data: HostSlice<'_>) -> Result<Block, DriverError> {
        let bytes = match data {
            HostSlice::F32(data) => size_of_val(data),
            HostSlice::F64(data) => size_of_val(data),
            HostSlice::U32(data) => size_of_val(data),
        };
        let allocation = context.lasting_memory(bytes)?;
        let block = Block { allocation, context: context.clone(), arena: None, transposed: OnceLock::new() };
        match data {
            HostSlice::F32(data) => block.fill(data)?,
            HostSlice::F64(data) => block.fill(data)?,
            HostSlice::U32(data) => block.fill(data)?,
        }
        Ok(block)
    }

    /// Copies from the host; `data` has as many bytes as the block.
    fn fill<T: Copy>(&self, data: &[T]) -> Result<(), DriverError> {
        assert_eq!(size_of_val(data), self.allocation.bytes(), "a copy of other bytes than the block has");
        if data.is_empty() {
            return Ok(());
        }
        let context = &self.context;
        context.context.bind_to_thread()?;
        context.counters.uploads.fetch_add(1, Ordering::Relaxed);
        let _guard = context.stream_guard();
        // SAFETY: the block has as many bytes as the slice. From memory that is not pinned the driver returns when it
        // has taken all of the slice.
        unsafe { result::memcpy_htod_async(self.pointer(), data, context.stream.cu_stream()) }
    }

    /// Copies to the host, with one wait for all work.
    ///
    /// # Panics
    /// If a kernel found a wrong operand since the last download.
    #[track_caller]
    pub(crate) fn download<T: Copy + Default>(&self, len: usize) -> Result<Vec<T>, DriverError> {
        let (mut data, mut word) = (vec![T::default(); len], [0u32]);
        assert!(size_of_val(&data[..]) <= self.allocation.bytes(), "a block has fewer bytes than its array");
        let context = &self.context;
        context.forbid_capture("a download");
        context.context.bind_to_thread()?;
        let suspect = context.fault.is_possible();
        let guard = context.stream_guard();
        // SAFETY: the blocks have so many bytes, and the call below waits for the copies.
        unsafe {
            self.allocation.queue_read(&context.stream, &mut data)?;
            if suspect {
                context.fault.word.queue_read(&context.stream, &mut word)?;
            }
        }
        context.wait()?;
        if word[0] != 0 {
            context.fault.word.zero(&context.stream)?;
        }
        drop(guard);
        Fault::tell(word[0]);
        Ok(data)
    }

    pub(crate) fn pointer(&self) -> u64 {
        self.allocation.pointer()
    }

    /// The same matrix transposed: made at the first call, freed with the block.
    pub(crate) fn transposed_or(&self, make: impl FnOnce() -> Block) -> &Block {
        self.transposed.get_or_init(|| Box::new(make()))
    }

    /// Whether it belongs to a captured function, each replay of which writes it anew.
    pub(crate) fn is_of_arena(&self) -> bool {
        self.arena.is_some()
    }

    /// What [`transposed_or`](Self::transposed_or) made before.
    pub(crate) fn cached_transpose(&self) -> Option<&Block> {
        self.transposed.get().map(Box::as_ref)
    }
}

impl Context {
    /// Uninitialized memory for `op`.
    #[track_caller]
    pub(crate) fn block(self: &Arc<Self>, op: &str, bytes: usize) -> Block {
        self.expect(op, Block::new(self, bytes))
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let allocation = self.allocation.take();
        match self.arena.take() {
            Some(arena) => arena.give_back(allocation),
            None => self.context.release(allocation),
        }
    }
}

/// The memory of an operand.
///
/// # Panics
/// If the array is on another device.
#[track_caller]
pub(crate) fn read<'a>(context: &Context, op: &str, x: &'a Array) -> &'a Block {
    let block =
        x.buffer().downcast_ref::<Block>().filter(|block| ptr::eq(Arc::as_ptr(&block.context), context));
    let block =
        block.unwrap_or_else(|| panic!("{op}: an operand is on {}, not on {context:?}", x.device().name()));
    if block.arena.is_none() {
        context.captures.keep(block.pointer(), x.buffer());
    }
    block
}
