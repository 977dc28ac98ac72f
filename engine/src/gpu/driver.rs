//! Unsafe code: compiling CUDA kernels at run time and launching them, through the libraries that libtorch brings.
//!
//! NVRTC compiles for the card at hand, so the binary needs no CUDA to be built and serves machines without a GPU. The
//! kernels run on libtorch's own stream, the legacy default one, in order with its operations.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::marker::PhantomData;
use std::ptr::null_mut;

use libloading::os::unix::{Library, Symbol};
use tch::Tensor;

use crate::native;
use crate::{EngineError, Result};

/// Kernels compiled and loaded on one card.
pub(super) struct Kernels {
    driver: Library,
    launch: Symbol<Launch>,
    enter: Symbol<unsafe extern "C" fn(*mut c_void) -> c_int>,
    context: *mut c_void,
    module: *mut c_void,
}

type Launch = unsafe extern "C" fn(
    *mut c_void,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    *mut c_void,
    *mut *mut c_void,
    *mut *mut c_void,
) -> c_int;

// SAFETY: the handles are the driver's, which takes them from any thread; `enter` makes the context the calling
// thread's before each use.
unsafe impl Send for Kernels {}

/// A kernel's function on the card.
#[derive(Clone, Copy)]
pub(super) struct Kernel<'a>(*mut c_void, PhantomData<&'a Kernels>);

/// An argument of a kernel.
#[derive(Clone, Copy)]
pub(super) enum Argument {
    /// Where on the card something lies; null for nothing.
    Place(*mut c_void),
    /// A 64-bit integer.
    Long(i64),
    /// A float.
    Float(f32),
}

impl From<&Tensor> for Argument {
    fn from(tensor: &Tensor) -> Self {
        Self::Place(tensor.data_ptr())
    }
}

impl From<i64> for Argument {
    fn from(number: i64) -> Self {
        Self::Long(number)
    }
}

impl From<f32> for Argument {
    fn from(number: f32) -> Self {
        Self::Float(number)
    }
}

impl Argument {
    /// No place.
    pub const NOTHING: Self = Self::Place(null_mut());
}

impl Kernels {
    /// Compiles `source` with `-D` definitions for card `number` and loads it there.
    pub fn new(source: &str, definitions: &[String], number: usize) -> Result<Self> {
        let (major, minor) =
            native::card(number).map(|card| card.capability).ok_or_else(|| wrong("the card is not known"))?;
        let mut options = vec![format!("--gpu-architecture=sm_{major}{minor}"), "--std=c++17".to_owned()];
        options.extend(definitions.iter().map(|definition| format!("-D{definition}")));
        let program = compile(source, &options)?;
        // SAFETY: the driver's library stays open as long as `self`; the signatures are those of its API, whose handles
        // are pointers and whose CUdevice and CUresult are C integers.
        unsafe {
            let driver = Library::new("libcuda.so.1").map_err(trouble)?;
            let get = driver.get::<unsafe extern "C" fn(*mut c_int, c_int) -> c_int>(b"cuDeviceGet\0");
            let retain =
                driver.get::<unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int>(b"cuDevicePrimaryCtxRetain\0");
            let load =
                driver.get::<unsafe extern "C" fn(*mut *mut c_void, *const c_void) -> c_int>(b"cuModuleLoadData\0");
            let (get, retain, load) = (get.map_err(trouble)?, retain.map_err(trouble)?, load.map_err(trouble)?);
            let enter = driver.get(b"cuCtxSetCurrent\0").map_err(trouble)?;
            let launch = driver.get(b"cuLaunchKernel\0").map_err(trouble)?;
            let (mut device, mut context, mut module) = (0, null_mut(), null_mut());
            said("cuDeviceGet", get(&raw mut device, number as c_int))?;
            said("cuDevicePrimaryCtxRetain", retain(&raw mut context, device))?;
            let kernels = Self { driver, launch, enter, context, module };
            kernels.enter()?;
            said("cuModuleLoadData", load(&raw mut module, program.as_ptr().cast()))?;
            Ok(Self { module, ..kernels })
        }
    }

    /// Makes the card the calling thread's; to be called before launches on a thread that may have changed.
    pub fn enter(&self) -> Result<()> {
        // SAFETY: the context is the card's primary one, retained above and never released.
        said("cuCtxSetCurrent", unsafe { (self.enter)(self.context) })
    }

    /// Finds a kernel by its name.
    pub fn find(&self, name: &CStr) -> Result<Kernel<'_>> {
        let mut function = null_mut();
        // SAFETY: as in `new`.
        unsafe {
            let find = self
                .driver
                .get::<unsafe extern "C" fn(*mut *mut c_void, *mut c_void, *const c_char) -> c_int>(
                    b"cuModuleGetFunction\0",
                )
                .map_err(trouble)?;
            said("cuModuleGetFunction", find(&raw mut function, self.module, name.as_ptr()))?;
        }
        Ok(Kernel(function, PhantomData))
    }

    /// Launches a kernel on `blocks` blocks of `threads` threads. The arguments must be those of the kernel's
    /// definition, and what they point to must be as large as it takes for granted.
    pub fn launch(&self, kernel: Kernel, (blocks, threads): (i64, i64), arguments: &mut [Argument]) -> Result<()> {
        let blocks = c_uint::try_from(blocks).map_err(trouble)?;
        let mut places: Vec<*mut c_void> = arguments
            .iter_mut()
            .map(|argument| match argument {
                Argument::Place(place) => (&raw mut *place).cast(),
                Argument::Long(number) => (&raw mut *number).cast(),
                Argument::Float(number) => (&raw mut *number).cast(),
            })
            .collect();
        // SAFETY: each place points to an argument's value, which the driver copies before it returns. Whether the
        // kernel stays within its tensors is decided by `kernels.cu` and the calls in `mod.rs`, side by side.
        let result = unsafe {
            let (threads, shared, stream) = (threads as c_uint, 0, null_mut());
            (self.launch)(kernel.0, blocks, 1, 1, threads, 1, 1, shared, stream, places.as_mut_ptr(), null_mut())
        };
        said("cuLaunchKernel", result)
    }
}

/// Source to machine code of one card.
fn compile(source: &str, options: &[String]) -> Result<Vec<u8>> {
    let source = CString::new(source).map_err(trouble)?;
    let options: Vec<CString> =
        options.iter().map(|option| CString::new(option.as_str())).collect::<Result<_, _>>().map_err(trouble)?;
    let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
    let nvrtc = native::open_nvrtc().map_err(wrong)?;
    // SAFETY: the signatures are NVRTC's; every pointer is to a live value of the size that the call before told, and
    // the program is destroyed once on every way out.
    unsafe {
        type Program = *mut c_void;
        type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
        type Copy = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
        type Text = *const c_char;
        let create = nvrtc
            .get::<unsafe extern "C" fn(*mut Program, Text, Text, c_int, *const Text, *const Text) -> c_int>(
                b"nvrtcCreateProgram\0",
            );
        let build = nvrtc.get::<unsafe extern "C" fn(Program, c_int, *const Text) -> c_int>(b"nvrtcCompileProgram\0");
        let destroy = nvrtc.get::<unsafe extern "C" fn(*mut Program) -> c_int>(b"nvrtcDestroyProgram\0");
        let (create, build, destroy) = (create.map_err(trouble)?, build.map_err(trouble)?, destroy.map_err(trouble)?);
        let sizes =
            [b"nvrtcGetCUBINSize\0".as_slice(), b"nvrtcGetProgramLogSize\0"].map(|name| nvrtc.get::<Size>(name));
        let copies = [b"nvrtcGetCUBIN\0".as_slice(), b"nvrtcGetProgramLog\0"].map(|name| nvrtc.get::<Copy>(name));
        let ([code_size, log_size], [code_copy, log_copy]) = (sizes, copies);
        let (code_size, code_copy) = (code_size.map_err(trouble)?, code_copy.map_err(trouble)?);
        let (log_size, log_copy) = (log_size.map_err(trouble)?, log_copy.map_err(trouble)?);
        let read = |program, size: &Symbol<Size>, copy: &Symbol<Copy>| {
            let mut length = 0;
            asked(size(program, &raw mut length))?;
            let mut bytes = vec![0u8; length];
            asked(copy(program, bytes.as_mut_ptr().cast()))?;
            Ok::<_, EngineError>(bytes)
        };
        let mut program = null_mut();
        let name = c"kernels.cu".as_ptr();
        asked(create(&raw mut program, source.as_ptr(), name, 0, std::ptr::null(), std::ptr::null()))?;
        let result = build(program, options.len() as c_int, options.as_ptr());
        let done = if result == 0 {
            read(program, &code_size, &code_copy)
        } else {
            read(program, &log_size, &log_copy)
                .and_then(|log| Err(wrong(String::from_utf8_lossy(&log).trim().to_owned())))
        };
        destroy(&raw mut program);
        done
    }
}

fn asked(result: c_int) -> Result<()> {
    if result == 0 { Ok(()) } else { Err(wrong(format!("NVRTC failed with error {result}"))) }
}

fn said(what: &str, result: c_int) -> Result<()> {
    match result {
        0 => Ok(()),
        // CUDA_ERROR_OUT_OF_MEMORY
        2 => Err(EngineError::OutOfMemory(format!("{what} finds no memory on the card"))),
        other => Err(wrong(format!("{what} failed with error {other}"))),
    }
}

fn wrong(what: impl Into<String>) -> EngineError {
    EngineError::Libtorch(format!("CUDA: {}", what.into()))
}

fn trouble(error: impl std::error::Error) -> EngineError {
    wrong(error.to_string())
}
