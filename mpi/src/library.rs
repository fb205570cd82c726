//! Open MPI's functions, loaded from its library: no more of it than ranks need.

use libloading::os::unix::{Library as Loaded, RTLD_GLOBAL, RTLD_NOW};
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

/// The library of Open MPI 4 and 5, whose binary interface is the same.
const NAMES: [&str; 3] = ["libmpi.so.40", "libmpi.so", "libmpi.40.dylib"];

/// `MPI_THREAD_SERIALIZED`: any thread calls, one at a time.
const SERIALIZED: c_int = 2;

/// A communicator, a type, an operation: a pointer to a variable of the library.
type Handle = *mut c_void;

type Gathering = unsafe extern "C" fn(
    *const c_void,
    c_int,
    Handle,
    *mut c_void,
    c_int,
    Handle,
    Handle,
    *mut Handle,
) -> c_int;
type Reducing =
    unsafe extern "C" fn(*const c_void, *mut c_void, c_int, Handle, Handle, Handle, *mut Handle) -> c_int;

/// MPI, begun in this process.
#[derive(Debug)]
pub(crate) struct Library {
    world: Handle,
    byte: Handle,
    float: Handle,
    sum: Handle,
    place: [usize; 2],
    gather: Gathering,
    exchange: Gathering,
    reduce: Reducing,
    test: unsafe extern "C" fn(*mut Handle, *mut c_int, *mut c_void) -> c_int,
    abort: unsafe extern "C" fn(Handle, c_int) -> c_int,
    finalize: unsafe extern "C" fn() -> c_int,
    /// What the addresses point into.
    _loaded: Loaded,
}

// SAFETY: the pointers are addresses of constants of the library, and MPI was begun so that any thread may call, one at a
// time, which `&mut` of the owner sees to.
unsafe impl Send for Library {}

/// A collective operation: what each rank gives and gets.
pub(crate) enum Collective<'a> {
    /// All bytes, in the order of the ranks.
    GatherBytes { mine: &'a [u8], all: &'a mut [u8] },
    /// All numbers, in the order of the ranks.
    Gather { mine: &'a [f32], all: &'a mut [f32] },
    /// To rank `r` part `r` of what is given; from rank `r` part `r` of what is got.
    Exchange { mine: &'a [f32], all: &'a mut [f32] },
    /// The sum in the library's order.
    Sum { mine: &'a [f32], all: &'a mut [f32] },
}

/// An operation that has begun; it borrows its memory until it is done or leaks it.
pub(crate) struct Request<'a> {
    library: &'a Library,
    handle: Handle,
    done: bool,
}

impl Library {
    /// Loads the library and begins MPI.
    pub(crate) fn open() -> Result<Library, String> {
        // SAFETY: the initializers of Open MPI's library do nothing but set it up. Its plug-ins look for its symbols
        // among those of all libraries, so that they have to be global.
        let open = |name: &&str| unsafe { Loaded::open(Some(*name), RTLD_NOW | RTLD_GLOBAL) }.ok();
        let Some(loaded) = NAMES.iter().find_map(open) else {
            return Err(format!(
                "Open MPI's library is not found ({}); install it (Debian: openmpi-bin), or name its folder in LD_LIBRARY_PATH",
                NAMES[0]
            ));
        };
        let missing = |error: libloading::Error| {
            format!("this MPI is not Open MPI 4 or 5: {error}; load that, or connect over TCP")
        };
        macro_rules! symbol {
            ($name:literal) => {{
                // SAFETY: the type is that of the symbol in mpi.h of Open MPI; of a variable it is the address.
                let found = unsafe { loaded.get(concat!($name, "\0").as_bytes()) };
                *found.map_err(missing)?
            }};
        }
        let world: Handle = symbol!("ompi_mpi_comm_world");
        let begin: unsafe extern "C" fn(*mut c_void, *mut c_void, c_int, *mut c_int) -> c_int =
            symbol!("MPI_Init_thread");
        let rank: unsafe extern "C" fn(Handle, *mut c_int) -> c_int = symbol!("MPI_Comm_rank");
        let size: unsafe extern "C" fn(Handle, *mut c_int) -> c_int = symbol!("MPI_Comm_size");
        let mut library = Library {
            world,
            byte: symbol!("ompi_mpi_byte"),
            float: symbol!("ompi_mpi_float"),
            sum: symbol!("ompi_mpi_op_sum"),
            place: [0, 1],
            gather: symbol!("MPI_Iallgather"),
            exchange: symbol!("MPI_Ialltoall"),
            reduce: symbol!("MPI_Iallreduce"),
            test: symbol!("MPI_Test"),
            abort: symbol!("MPI_Abort"),
            finalize: symbol!("MPI_Finalize"),
            _loaded: loaded,
        };
        let mut provided = 0;
        // SAFETY: null pointers stand for no arguments; `provided` lives on.
        checked("MPI_Init_thread", unsafe { begin(null_mut(), null_mut(), SERIALIZED, &mut provided) })?;
        if provided < SERIALIZED {
            return Err("this Open MPI was built without threads; take another, or connect over TCP".into());
        }
        for (place, of) in library.place.iter_mut().zip([rank, size]) {
            let mut number = 0;
            // SAFETY: MPI has begun, and `number` lives on.
            checked("MPI_Comm_rank", unsafe { of(world, &mut number) })?;
            *place = usize::try_from(number).map_err(|_| "MPI gives a negative rank".to_owned())?;
        }
        Ok(library)
    }

    /// Rank and number of ranks.
    pub(crate) fn place(&self) -> [usize; 2] {
        self.place
    }

    /// Begins an operation, whose memory is borrowed as long as the request.
    pub(crate) fn begin<'a>(&'a self, operation: Collective<'a>) -> Result<Request<'a>, String> {
        let [_, count] = self.place;
        let most = |length: usize| {
            c_int::try_from(length).map_err(|_| format!("{length} elements are more than MPI sends at once"))
        };
        let mut handle = null_mut();
        let world = self.world;
        // Of each operation the lengths are those of the slices: `count` equal parts of what is got.
        let code = match operation {
            Collective::GatherBytes { mine, all } => {
                assert_eq!(all.len(), count * mine.len(), "what is gathered");
                let (n, from, to) = (most(mine.len())?, mine.as_ptr().cast(), all.as_mut_ptr().cast());
                // SAFETY: the slices have n and count·n elements of the type, and live until the request is done.
                unsafe { (self.gather)(from, n, self.byte, to, n, self.byte, world, &mut handle) }
            }
            Collective::Gather { mine, all } => {
                assert_eq!(all.len(), count * mine.len(), "what is gathered");
                let (n, from, to) = (most(mine.len())?, mine.as_ptr().cast(), all.as_mut_ptr().cast());
                // SAFETY: as above.
                unsafe { (self.gather)(from, n, self.float, to, n, self.float, world, &mut handle) }
            }
            Collective::Exchange { mine, all } => {
                assert!(all.len() == mine.len() && mine.len().is_multiple_of(count), "what is exchanged");
                let (n, from, to) =
                    (most(mine.len() / count)?, mine.as_ptr().cast(), all.as_mut_ptr().cast());
                // SAFETY: both slices have count·n elements of the type, and live until the request is done.
                unsafe { (self.exchange)(from, n, self.float, to, n, self.float, world, &mut handle) }
            }
            Collective::Sum { mine, all } => {
                assert_eq!(all.len(), mine.len(), "what is added");
                let (n, from, to) = (most(mine.len())?, mine.as_ptr().cast(), all.as_mut_ptr().cast());
                // SAFETY: both slices have n elements of the type, and live until the request is done.
                unsafe { (self.reduce)(from, to, n, self.float, self.sum, world, &mut handle) }
            }
        };
        checked("a collective operation", code)?;
        Ok(Request { library: self, handle, done: false })
    }

    /// Ends the processes of all ranks; does not return where MPI works.
    pub(crate) fn abort(&self, code: i32) {
        // SAFETY: MPI has begun and is not finalized: that ends the use of the library.
        unsafe { (self.abort)(self.world, code) };
    }

    /// Ends MPI in this process, when all others do.
    pub(crate) fn finalize(&mut self) {
        // SAFETY: MPI has begun, and no operation is under way: requests borrow the library.
        unsafe { (self.finalize)() };
    }
}

impl Request<'_> {
    /// Whether the operation is over.
    pub(crate) fn is_done(&mut self) -> Result<bool, String> {
        let mut flag = 0;
        // SAFETY: the request is one of the library; a null status is MPI_STATUS_IGNORE.
        checked("MPI_Test", unsafe { (self.library.test)(&mut self.handle, &mut flag, null_mut()) })?;
        self.done = flag != 0;
        Ok(self.done)
    }

    /// Ends the processes of all ranks in the middle of the operation.
    pub(crate) fn give_up(mut self, code: i32) {
        self.done = true;
        self.library.abort(code);
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        if !self.done {
            // The library would write into memory that is about to be freed.
            self.library.abort(1);
        }
    }
}

fn checked(what: &str, code: c_int) -> Result<(), String> {
    if code == 0 { Ok(()) } else { Err(format!("{what} of MPI failed with code {code}")) }
}
