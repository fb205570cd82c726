//! NCCL's functions, loaded from its library: no more of it than the ranks of a training need.
//!
//! cudarc has all of them, but it does not look for the name under which NCCL is installed, `libnccl.so.2`, and a function that a
//! version lacks is a panic there, in the middle of a training.

use super::Places;
use crate::error::CudaError;
use cudarc::driver::sys::CUstream;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes by which the ranks of a communicator find each other.
pub(crate) const ID_BYTES: usize = 128;

const SUCCESS: c_int = 0;
const IN_PROGRESS: c_int = 7;
/// `ncclUint8`, `ncclFloat32` and `ncclSum`.
const BYTES: c_int = 1;
const FLOATS: c_int = 7;
const SUM: c_int = 0;

#[repr(C)]
#[derive(Clone, Copy)]
struct Id([c_char; ID_BYTES]);

/// The settings of a communicator as NCCL 2.14 had them; newer versions go by `size` and `version` and take the rest as unset.
#[repr(C)]
struct Config {
    size: usize,
    magic: c_uint,
    version: c_uint,
    blocking: c_int,
}

type Handle = *mut c_void;
type Communicating = unsafe extern "C" fn(Handle) -> c_int;
type Starting = unsafe extern "C" fn(*mut Handle, c_int, Id, c_int, *mut Config) -> c_int;
type Gathering = unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, Handle, CUstream) -> c_int;
type Reducing =
    unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, c_int, Handle, CUstream) -> c_int;

/// The library, with the functions that are used; it stays open until the process ends, because threads of its own run in it.
pub(crate) struct Nccl {
    id: unsafe extern "C" fn(*mut Id) -> c_int,
    start: Starting,
    state: unsafe extern "C" fn(Handle, *mut c_int) -> c_int,
    gather: Gathering,
    reduce: Reducing,
    finalize: Communicating,
    destroy: Communicating,
    abort: Communicating,
    error: unsafe extern "C" fn(c_int) -> *const c_char,
    version: u32,
}

impl Nccl {
    /// Opens the library.
    pub(crate) fn open(places: &Places) -> Result<Nccl, CudaError> {
        let loaded = places.nccl()?;
        let missing = |error: libloading::Error| format!("{error}; it has to be 2.14 or newer");
        let failed = |cause: String| CudaError::failed("opening NCCL")(cause);
        macro_rules! symbol {
            ($name:literal) => {{
                // SAFETY: the type is that of the function in nccl.h since 2.14.
                let found = unsafe { loaded.get(concat!($name, "\0").as_bytes()) };
                *found.map_err(missing).map_err(failed)?
            }};
        }
        let version: unsafe extern "C" fn(*mut c_int) -> c_int = symbol!("ncclGetVersion");
        let mut nccl = Nccl {
            id: symbol!("ncclGetUniqueId"),
            start: symbol!("ncclCommInitRankConfig"),
            state: symbol!("ncclCommGetAsyncError"),
            gather: symbol!("ncclAllGather"),
            reduce: symbol!("ncclAllReduce"),
            finalize: symbol!("ncclCommFinalize"),
            destroy: symbol!("ncclCommDestroy"),
            abort: symbol!("ncclCommAbort"),
            error: symbol!("ncclGetErrorString"),
            version: 0,
        };
        std::mem::forget(loaded);
        let mut number = 0;
        // SAFETY: the pointer is to an integer that outlives the call.
        nccl.done("ncclGetVersion", unsafe { version(&mut number) }).map_err(failed)?;
        nccl.version = number.unsigned_abs();
        Ok(nccl)
    }

    /// As NCCL counts: 22703 is 2.27.3.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// Makes the bytes by which the ranks of a new communicator find each other.
    pub(crate) fn id(&self) -> Result<[u8; ID_BYTES], String> {
        let mut id = Id([0; ID_BYTES]);
        // SAFETY: the pointer is to an id that outlives the call.
        self.done("ncclGetUniqueId", unsafe { (self.id)(&mut id) })?;
        Ok(id.0.map(|byte| byte as u8))
    }

    /// Begins to connect the ranks of a communicator, whose device is the one of the context that is current.
    pub(crate) fn connect(
        self: &Arc<Self>,
        id: [u8; ID_BYTES],
        [rank, count]: [usize; 2],
    ) -> Result<Communicator, String> {
        let number = |n: usize| c_int::try_from(n).map_err(|_| format!("{n} ranks are more than NCCL knows"));
        let (rank, count) = (number(rank)?, number(count)?);
        let id = Id(id.map(|byte| byte as c_char));
        // A communicator that blocks could not be given up when another rank dies.
        let mut config =
            Config { size: size_of::<Config>(), magic: 0xcafe_beef, version: 21400, blocking: 0 };
        let mut handle = std::ptr::null_mut();
        // SAFETY: both pointers are to places that outlive the call, and the rank is below the count by the caller.
        let code = unsafe { (self.start)(&mut handle, count, id, rank, &mut config) };
        self.begun("ncclCommInitRankConfig", code)?;
        Ok(Communicator { nccl: self.clone(), handle })
    }

    fn done(&self, what: &str, code: c_int) -> Result<(), String> {
        if code == SUCCESS { Ok(()) } else { Err(self.message(what, code)) }
    }

    /// As [`done`](Self::done), of a call that may go on behind the scenes.
    fn begun(&self, what: &str, code: c_int) -> Result<(), String> {
        if code == IN_PROGRESS { Ok(()) } else { self.done(what, code) }
    }

    fn message(&self, what: &str, code: c_int) -> String {
        // SAFETY: it takes any number, and gives a constant text.
        let text = unsafe { (self.error)(code) };
        // SAFETY: not null, the text of the library ends in a zero.
        let text = (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned());
        format!("{what} failed: {} (code {code}; NCCL_DEBUG=WARN tells more)", text.unwrap_or_default())
    }
}

/// One rank of a communicator. Every call has to find the context current that it was connected in.
pub(crate) struct Communicator {
    nccl: Arc<Nccl>,
    handle: Handle,
}

// SAFETY: a communicator is bound to a device, not to a thread, and one owner calls it, one call at a time.
unsafe impl Send for Communicator {}

impl Communicator {
    /// Whether all that was asked of it is on its stream; for what runs there, ask the stream.
    pub(crate) fn is_ready(&self) -> Result<bool, String> {
        let mut state = SUCCESS;
        // SAFETY: the communicator lives, and the pointer is to an integer that outlives the call.
        let code = unsafe { (self.nccl.state)(self.handle, &mut state) };
        self.nccl.done("ncclCommGetAsyncError", code)?;
        self.nccl.begun("a communicator of NCCL", state).map(|()| state == SUCCESS)
    }

    /// Queues a gathering of `bytes` bytes of each rank, in the order of ranks.
    ///
    /// # Safety
    /// `from` has so many bytes, and `to` as many times that as there are ranks, on the device, until the stream has done it.
    pub(crate) unsafe fn gather(
        &self,
        from: u64,
        to: u64,
        bytes: usize,
        stream: CUstream,
    ) -> Result<(), String> {
        // SAFETY: the caller's; the communicator lives.
        let code = unsafe { (self.nccl.gather)(from as _, to as _, bytes, BYTES, self.handle, stream) };
        self.nccl.begun("ncclAllGather", code)
    }

    /// Queues a sum of `count` numbers over all ranks, in an order that NCCL chooses.
    ///
    /// # Safety
    /// `from` and `to` have so many f32 on the device, until the stream has done it.
    pub(crate) unsafe fn sum(
        &self,
        from: u64,
        to: u64,
        count: usize,
        stream: CUstream,
    ) -> Result<(), String> {
        // SAFETY: the caller's; the communicator lives.
        let code = unsafe { (self.nccl.reduce)(from as _, to as _, count, FLOATS, SUM, self.handle, stream) };
        self.nccl.begun("ncclAllReduce", code)
    }

    /// Ends it together with the other ranks, if they do so too within `most`.
    pub(crate) fn end(self, most: Duration) {
        let began = Instant::now();
        // SAFETY: the communicator lives.
        let mut well = self.nccl.begun("ncclCommFinalize", unsafe { (self.nccl.finalize)(self.handle) });
        loop {
            match well.and_then(|()| self.is_ready()) {
                Ok(true) => {
                    // SAFETY: it is finalized, and not used again.
                    unsafe { (self.nccl.destroy)(self.handle) };
                    break;
                }
                Ok(false) if began.elapsed() < most => std::thread::sleep(Duration::from_millis(1)),
                _ => break self.abort(),
            }
            well = Ok(());
        }
    }

    /// Ends it without the other ranks, with what it has under way.
    pub(crate) fn abort(self) {
        // SAFETY: the communicator lives, and is not used again.
        unsafe { (self.nccl.abort)(self.handle) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_has_the_functions_where_it_is_installed() {
        match Nccl::open(&Places::usual()) {
            Ok(nccl) => {
                assert!(nccl.version() >= 21400, "{}", nccl.version());
                assert!(
                    nccl.message("a call", 4).contains("invalid argument"),
                    "{}",
                    nccl.message("a call", 4)
                );
            }
            Err(CudaError::NoNccl { .. }) => println!("did not load NCCL: it is not installed"),
            Err(other) => panic!("{other}"),
        }
    }
}
