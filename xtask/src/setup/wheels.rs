//! Which wheels make up libtorch on which machine, and which of their files are wanted. Pure.
//!
//! PyTorch's wheel carries libtorch. Every wheel is pinned by name, size and SHA-256, so that what is unpacked is what
//! was tried. The table was made from PyTorch's own `Requires-Dist` lines (and those of `cuda-toolkit`, which it
//! names). Tried for real: Linux x86-64, where everything is built and run with it, and `--cuda` there up to a
//! `libtorch_cuda.so` that finds every library that it names. The wheels for Linux on Arm and for macOS were downloaded
//! and read (files, needed libraries), not run.

use std::path::{Path, PathBuf};

use super::table::{CPU_WHEELS, LINUX_ARM, LINUX_X86, MAC_ARM};

/// The libtorch that the `tch` crate of this workspace is made for.
pub const VERSION: &str = "2.11.0";

/// A machine that has wheels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// glibc 2.28 or newer.
    LinuxX86,
    /// glibc 2.28 or newer.
    LinuxArm,
    /// Apple silicon.
    MacArm,
}

impl Platform {
    /// From the names that Rust gives to system and processor; `None` where there is no wheel.
    pub fn of(system: &str, processor: &str) -> Option<Self> {
        match (system, processor) {
            ("linux", "x86_64") => Some(Self::LinuxX86),
            ("linux", "aarch64") => Some(Self::LinuxArm),
            ("macos", "aarch64") => Some(Self::MacArm),
            _ => None,
        }
    }

    /// How shared libraries end.
    pub fn library_suffix(self) -> &'static str {
        if self == Self::MacArm { "dylib" } else { "so" }
    }
}

/// One pinned file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wheel {
    /// The file's name: `name-version-python-abi-platform.whl`.
    pub file: &'static str,
    /// Bytes.
    pub size: u64,
    /// In lower-case hex.
    pub sha256: &'static str,
}

impl Wheel {
    /// The package, as in the file's name.
    pub fn name(&self) -> &'static str {
        self.file.split('-').next().unwrap_or(self.file)
    }

    /// `name===version`, as pip takes it: exactly this one. After `==` pip would take 2.11.0+cpu of another index too,
    /// and rather.
    pub fn requirement(&self) -> String {
        let version = self.file.split('-').nth(1).unwrap_or_default();
        format!("{}==={version}", self.name().replace('_', "-"))
    }

    /// The platform tag to ask pip for; the first one if the file carries several.
    pub fn tag(&self) -> &'static str {
        let tags = self.file.trim_end_matches(".whl").rsplit('-').next().unwrap_or_default();
        tags.split('.').next().unwrap_or(tags)
    }
}

/// What to bring for one machine.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The machine.
    pub platform: Platform,
    /// With the CUDA libraries.
    pub cuda: bool,
    /// In the order of download, PyTorch first.
    pub wheels: &'static [Wheel],
    /// Bytes of what is unpacked, rounded up.
    pub unpacked: u64,
}

impl Plan {
    /// `None` if there are no CUDA wheels for the machine.
    pub fn new(platform: Platform, cuda: bool) -> Option<Self> {
        let (wheels, unpacked) = match (platform, cuda) {
            (Platform::LinuxX86, false) => (&LINUX_X86[..CPU_WHEELS], 530_000_000),
            (Platform::LinuxX86, true) => (LINUX_X86, 4_200_000_000),
            (Platform::LinuxArm, false) => (LINUX_ARM, 380_000_000),
            (Platform::MacArm, false) => (MAC_ARM, 300_000_000),
            (Platform::LinuxArm | Platform::MacArm, true) => return None,
        };
        Some(Self { platform, cuda, wheels, unpacked })
    }

    /// The name of the folder in the cache.
    pub fn folder(&self) -> String {
        format!("libtorch-{VERSION}-{}", if self.cuda { "cuda" } else { "cpu" })
    }

    /// Bytes of all downloads.
    pub fn download(&self) -> u64 {
        self.wheels.iter().map(|wheel| wheel.size).sum()
    }

    /// Where a file inside a wheel goes below the libtorch folder; `None` if it is not wanted.
    pub fn place(&self, inside: &Path) -> Option<PathBuf> {
        let parts: Vec<&str> = inside.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
        match parts.as_slice() {
            ["torch", "include", rest @ ..] if !rest.is_empty() => Some(Path::new("include").join(rest.join("/"))),
            ["torch", "lib", file] if self.wants_torch_library(file) => Some(Path::new("lib").join(file)),
            ["nvidia", _, "lib", file] if self.wants_nvidia_library(file) => Some(Path::new("lib").join(file)),
            _ => None,
        }
    }

    fn wants_torch_library(&self, file: &str) -> bool {
        let Some((stem, _)) = file.split_once('.') else { return false };
        let skipped = match stem {
            // For Python, and for sharing tensors between Python processes.
            "libtorch_python" | "libshm" | "libtorch_global_deps" => true,
            // On Linux an empty shell that wants CUDA: a linker script takes its place.
            "libtorch" => self.platform != Platform::MacArm,
            "libtorch_cuda" | "libtorch_cuda_linalg" | "libtorch_nvshmem" | "libc10_cuda" | "libcaffe2_nvrtc" => {
                !self.cuda
            }
            _ => false,
        };
        is_shared_library(file) && !skipped
    }

    fn wants_nvidia_library(&self, file: &str) -> bool {
        // `libtorch_cpu.so` wants these two by name, GPU or not.
        let always = ["libcudart.so.13", "libcupti.so.13"];
        always.contains(&file) || self.cuda && is_shared_library(file)
    }
}

/// `libx.so`, `libx.so.13`, `libx.dylib`.
fn is_shared_library(file: &str) -> bool {
    file.split('.').skip(1).any(|part| part == "so" || part == "dylib")
}

#[cfg(test)]
mod tests;
