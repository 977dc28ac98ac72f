//! Unsafe code (the rest of the engine's is in `cpu/wide.rs` and `gpu/driver.rs`): loading libtorch's CUDA half at run time, and plain slices over tensors in memory.
//!
//! libtorch registers CUDA when `libtorch_cuda.so` is loaded, so one binary serves machines with and without a GPU:
//! it links the CPU half alone and loads the other half if it is there.
#![allow(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tch::{Device, Kind, Tensor};

/// Name of the library whose loading registers CUDA.
const CUDA_LIBRARY: &str = if cfg!(windows) { "torch_cuda.dll" } else { "libtorch_cuda.so" };

/// Loads libtorch's CUDA half once a process; afterwards the same answer again. `Err` says where it was looked for.
pub(crate) fn load_cuda() -> Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED.get_or_init(try_load_cuda).clone()
}

fn try_load_cuda() -> Result<(), String> {
    // Nothing may ask libtorch about CUDA before: it keeps the first answer for ever.
    let folders = library_folders();
    let mut tried = Vec::new();
    for folder in &folders {
        let path = folder.join(CUDA_LIBRARY);
        if !path.exists() {
            continue;
        }
        match open_for_good(&path) {
            Ok(()) => return Ok(()),
            Err(why) => tried.push(why),
        }
    }
    if tried.is_empty() && tch::Cuda::is_available() {
        // Linked with it from the beginning.
        return Ok(());
    }
    if tried.is_empty() {
        let looked: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
        tried.push(format!("no {CUDA_LIBRARY} in {}", looked.join(", ")));
    }
    Err(tried.join("; "))
}

/// Opens a library and never closes it.
fn open_for_good(path: &Path) -> Result<(), String> {
    #[cfg(unix)]
    {
        use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
        // SAFETY: the library is libtorch's own other half; its initialisers register kernels and touch nothing of
        // ours. It is never unloaded.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }.map_err(|e| e.to_string())?;
        std::mem::forget(library);
    }
    #[cfg(windows)]
    {
        // SAFETY: as above.
        let library = unsafe { libloading::Library::new(path) }.map_err(|e| e.to_string())?;
        std::mem::forget(library);
    }
    Ok(())
}

/// A graphics card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Card {
    pub name: String,
    /// What it can do: from 8.0 (Ampere) on it multiplies in bf16.
    pub capability: (i32, i32),
}

/// The card of this number, asked from the driver that libtorch has loaded.
#[cfg(target_os = "linux")]
pub(crate) fn card(number: usize) -> Option<Card> {
    use std::ffi::{c_char, c_int};

    const MAJOR: c_int = 75;
    const MINOR: c_int = 76;
    let number = c_int::try_from(number).ok()?;
    let (mut device, mut major, mut minor, mut name) = (0, 0, 0, [0u8; 64]);
    // SAFETY: opening the library again only counts. The signatures are those of the driver's API (CUdevice and
    // CUresult are C integers), every pointer is to a live variable, and the name's length goes with it.
    unsafe {
        let driver = libloading::os::unix::Library::new("libcuda.so.1").ok()?;
        let get = driver.get::<unsafe extern "C" fn(*mut c_int, c_int) -> c_int>(b"cuDeviceGet\0").ok()?;
        let attribute =
            driver.get::<unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int>(b"cuDeviceGetAttribute\0").ok()?;
        let get_name =
            driver.get::<unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int>(b"cuDeviceGetName\0").ok()?;
        let fine = get(&raw mut device, number) == 0
            && attribute(&raw mut major, MAJOR, device) == 0
            && attribute(&raw mut minor, MINOR, device) == 0
            && get_name(name.as_mut_ptr().cast(), name.len() as c_int, device) == 0;
        if !fine {
            return None;
        }
    }
    let name = std::ffi::CStr::from_bytes_until_nul(&name).ok()?;
    Some(Card { name: name.to_string_lossy().into_owned(), capability: (major, minor) })
}

/// Not known elsewhere: training there is in f32.
#[cfg(not(target_os = "linux"))]
pub(crate) fn card(_: usize) -> Option<Card> {
    None
}

/// CUDA's run-time compiler, which libtorch brings: next to its CUDA half lies a library that leads to it.
#[cfg(target_os = "linux")]
pub(crate) fn open_nvrtc() -> Result<libloading::os::unix::Library, String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

    let folders = library_folders();
    let path = folders.iter().map(|folder| folder.join("libcaffe2_nvrtc.so")).find(|path| path.exists());
    let path = path.ok_or("there is no libcaffe2_nvrtc.so beside libtorch")?;
    // SAFETY: libtorch's own library, and through it NVIDIA's; their initialisers touch nothing of ours.
    let library = unsafe { Library::open(Some(&path), RTLD_NOW) }.map_err(|error| error.to_string())?;
    // The compiler opens its other half by name alone: that is found once it is loaded from where the compiler is.
    let loaded = loaded_libraries();
    let compiler = loaded.iter().find(|path| file_name(path).starts_with("libnvrtc.so"));
    let beside = compiler.and_then(|path| std::fs::read_dir(path.parent()?).ok());
    for entry in beside.into_iter().flatten().flatten() {
        let path = entry.path();
        if file_name(&path).starts_with("libnvrtc-builtins.so") {
            // SAFETY: as above. One that does not load is missed by the compiler, which then says so.
            if let Ok(builtins) = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) } {
                std::mem::forget(builtins);
            }
        }
    }
    Ok(library)
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The files of this process's libraries, where the system tells.
fn loaded_libraries() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..]))).collect()
}

/// Folders that may hold the CUDA half: the one the CPU half came from first, because the two must be of one version.
fn library_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let mut push = |folder: PathBuf| {
        if !folder.as_os_str().is_empty() && !folders.contains(&folder) {
            folders.push(folder);
        }
    };
    let loaded = loaded_libraries();
    let cpu = loaded.iter().filter(|path| file_name(path) == "libtorch_cpu.so");
    cpu.filter_map(|path| path.parent()).for_each(|folder| push(folder.to_owned()));
    if let Some(root) = std::env::var_os("LIBTORCH") {
        push(Path::new(&root).join("lib"));
    }
    for list in ["LD_LIBRARY_PATH", "PATH"] {
        if list == "PATH" && !cfg!(windows) {
            continue;
        }
        if let Some(paths) = std::env::var_os(list) {
            std::env::split_paths(&paths).for_each(&mut push);
        }
    }
    folders
}

/// Whether `tensor` is what [`floats`] and [`floats_mut`] need: f32, in this process's memory, without gaps.
fn is_plain(tensor: &Tensor) -> bool {
    tensor.device() == Device::Cpu && tensor.kind() == Kind::Float && tensor.is_contiguous()
}

/// The numbers of a contiguous f32 tensor on the CPU. Nobody may write through a view of the same storage meanwhile.
pub(crate) fn floats(tensor: &Tensor) -> &[f32] {
    assert!(is_plain(tensor), "only contiguous f32 tensors on the CPU can be read as a slice");
    // libtorch gives no address for nothing.
    if tensor.numel() == 0 {
        return &[];
    }
    // SAFETY: the assertion makes the storage `numel` initialised floats from `data_ptr`; the borrow of the handle
    // keeps the storage alive. Aliasing through other handles is ruled out by the callers' phases (see `cpu/mod.rs`).
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<f32>(), tensor.numel()) }
}

/// The numbers of a contiguous f32 tensor on the CPU, to be written. Nobody may read or write through a view of the
/// same storage meanwhile.
pub(crate) fn floats_mut(tensor: &mut Tensor) -> &mut [f32] {
    assert!(is_plain(tensor), "only contiguous f32 tensors on the CPU can be written as a slice");
    if tensor.numel() == 0 {
        return &mut [];
    }
    // SAFETY: as in `floats`, and the handle is borrowed exclusively.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<f32>(), tensor.numel()) }
}
