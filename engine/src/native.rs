//! Unsafe code (the rest of the engine's is in `cpu/wide.rs`): loading libtorch's CUDA half at run time, and plain slices over tensors in memory.
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
    if tch::Cuda::is_available() {
        return Ok(());
    }
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

/// Folders that may hold the CUDA half: the one the CPU half came from first, because the two must be of one version.
fn library_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let mut push = |folder: PathBuf| {
        if !folder.as_os_str().is_empty() && !folders.contains(&folder) {
            folders.push(folder);
        }
    };
    if let Ok(maps) = std::fs::read_to_string("/proc/self/maps") {
        let loaded = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
        let cpu = loaded.filter(|path| path.file_name().is_some_and(|name| name == "libtorch_cpu.so"));
        cpu.filter_map(Path::parent).for_each(|folder| push(folder.to_owned()));
    }
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
