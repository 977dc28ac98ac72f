//! Choosing and opening the processor that does the arithmetic.
//!
//! On a CPU every core counts through replicas (see `cpu/mod.rs`), so libtorch itself is kept at one thread an
//! operation wherever the work can be split from outside.

use std::fmt;
use std::str::FromStr;

use tch::{Kind, Tensor};

use crate::{EngineError, native};

/// What the user asked for: `auto`, `cpu`, `cuda` or `cuda:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A GPU if one is usable, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this number; anything else is an error.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" | "gpu" => Ok(Self::Cuda(0)),
            other => other
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("unknown device {text:?}: use auto, cpu, cuda or cuda:N")),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// The most CPU threads that training uses, whatever the machine has.
pub const MOST_THREADS: usize = 256;

/// An opened device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    pub(crate) torch: tch::Device,
    threads: usize,
    /// Whether training is in bf16, over weights in f32.
    bf16: bool,
}

impl Device {
    /// Opens what was asked for. `threads` bounds the CPU cores in use; all of them without it.
    pub fn open(choice: DeviceChoice, threads: Option<usize>) -> Result<Self, EngineError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.unwrap_or(cores).clamp(1, MOST_THREADS);
        choose(choice, Self { torch: tch::Device::Cpu, threads, bf16: false }, find_cuda)
    }

    /// CPU threads that training uses; 1 on a GPU.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The same with another bound on the CPU cores in use; a GPU stays as it is.
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        if self.is_gpu() { self } else { Self { threads: threads.clamp(1, MOST_THREADS), ..self } }
    }

    /// The same with training in f32 throughout.
    #[must_use]
    pub fn in_f32(self) -> Self {
        Self { bf16: false, ..self }
    }

    /// What training multiplies in.
    pub(crate) fn kind(&self) -> tch::Kind {
        if self.bf16 { tch::Kind::BFloat16 } else { tch::Kind::Float }
    }

    /// Whether this is a GPU.
    pub fn is_gpu(&self) -> bool {
        self.torch != tch::Device::Cpu
    }

    /// For people: `cpu ×2`, or `cuda:0, NVIDIA H100, bf16`.
    pub fn describe(&self) -> String {
        match self.torch {
            tch::Device::Cuda(number) => {
                // Short enough for a label of the protocol, whatever the card is called.
                let name = native::card(number).map(|card| card.name.chars().take(40).collect::<String>());
                let name = name.map_or_else(String::new, |name| format!(", {name}"));
                format!("cuda:{number}{name}{}", if self.bf16 { ", bf16" } else { "" })
            }
            _ => format!("cpu ×{}", self.threads),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

/// Why there is no card to compute on.
#[derive(Debug)]
enum NoCard {
    /// There is none, or nothing that reaches it.
    Absent(String),
    /// There is one, and it does not compute.
    Fails(String),
}

fn choose(
    choice: DeviceChoice,
    cpu: Device,
    find: impl Fn(usize) -> Result<Device, NoCard>,
) -> Result<Device, EngineError> {
    match choice {
        DeviceChoice::Cpu => Ok(cpu),
        DeviceChoice::Cuda(number) => find(number).map_err(|(NoCard::Absent(why) | NoCard::Fails(why))| {
            EngineError::NoDevice { wanted: choice.to_string(), why }
        }),
        DeviceChoice::Auto => Ok(find(0).unwrap_or_else(|missing| {
            match missing {
                NoCard::Absent(why) => tracing::debug!(why, "no GPU, using the CPU"),
                NoCard::Fails(why) => tracing::warn!(why, "the GPU cannot be used, using the CPU"),
            }
            cpu
        })),
    }
}

fn find_cuda(number: usize) -> Result<Device, NoCard> {
    let device = reach_cuda(number).map_err(NoCard::Absent)?;
    // One that is listed may be too old or too new for this libtorch, or broken.
    let fails = |error| NoCard::Fails(format!("it is there, but fails to compute: {error}; start with --device cpu"));
    try_out(device.torch).map_err(fails)?;
    Ok(device)
}

/// Has a small product computed and read back.
fn try_out(device: tch::Device) -> Result<(), EngineError> {
    let ones = Tensor::f_ones([16, 16], (Kind::Float, device))?;
    let sum = ones.f_mm(&ones)?.f_sum(Kind::Float)?.f_double_value(&[])?;
    if sum.to_bits() == 4096.0f64.to_bits() {
        Ok(())
    } else {
        Err(EngineError::Libtorch(format!("a product that adds up to 4096 came out as {sum}")))
    }
}

fn reach_cuda(number: usize) -> Result<Device, String> {
    let hint = "start with --device cpu, or run `cargo xtask setup --cuda` on a machine with an NVIDIA card";
    native::load_cuda().map_err(|why| format!("{why}; {hint}"))?;
    if !tch::Cuda::is_available() {
        return Err(format!("libtorch finds no usable NVIDIA driver; {hint}"));
    }
    let count = tch::Cuda::device_count();
    if number as i64 >= count {
        return Err(format!("there are {count} CUDA devices, numbered from 0"));
    }
    let bf16 = native::card(number).is_some_and(|card| card.capability >= (8, 0));
    Ok(Device { torch: tch::Device::Cuda(number), threads: 1, bf16 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_and_written() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("CPU", DeviceChoice::Cpu),
            ("cuda", DeviceChoice::Cuda(0)),
            ("cuda:3", DeviceChoice::Cuda(3)),
        ] {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        for text in ["", "tpu", "cuda:", "cuda:-1", "cuda:x"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_missing_gpu_is_explained() {
        // Holds on machines with fewer than 200 GPUs.
        let error = Device::open(DeviceChoice::Cuda(200), None).expect_err("there is no such device");
        assert!(matches!(error, EngineError::NoDevice { .. }), "{error}");
    }

    #[test]
    fn a_card_that_does_not_compute_is_not_taken() {
        let cpu = Device::open(DeviceChoice::Cpu, Some(2)).unwrap();
        let gpu = Device { torch: tch::Device::Cuda(0), threads: 1, bf16: true };
        for missing in [NoCard::Absent, NoCard::Fails] {
            let find = |_| Err(missing("no kernel image is available".to_owned()));
            assert_eq!(choose(DeviceChoice::Auto, cpu, find).unwrap(), cpu);
            let error = choose(DeviceChoice::Cuda(0), cpu, find).unwrap_err();
            assert!(matches!(&error, EngineError::NoDevice { why, .. } if why.contains("kernel image")), "{error}");
        }
        assert_eq!(choose(DeviceChoice::Auto, cpu, |_| Ok(gpu)).unwrap(), gpu);
        assert_eq!(choose(DeviceChoice::Cpu, cpu, |_| Ok(gpu)).unwrap(), cpu);
    }

    #[test]
    fn what_is_tried_out_comes_to_the_right_result() {
        try_out(tch::Device::Cpu).unwrap();
    }

    #[test]
    fn the_cpu_is_always_there() {
        let device = Device::open(DeviceChoice::Cpu, Some(3)).unwrap();
        assert_eq!((device.describe().as_str(), device.threads(), device.is_gpu()), ("cpu ×3", 3, false));
        let counts = [0, 2, 1_000].map(|threads| device.with_threads(threads).threads());
        assert_eq!(counts, [1, 2, MOST_THREADS]);
    }
}
