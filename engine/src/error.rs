//! What can go wrong when libtorch is asked for something, told apart as far as a caller acts on it.

use tch::TchError;

/// Shorthand within the engine.
pub(crate) type Result<T, E = EngineError> = std::result::Result<T, E>;

/// Why the engine could not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The device's memory does not hold even the smallest piece of the work.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// The device asked for is not there.
    #[error("no {wanted} device: {why}")]
    NoDevice {
        /// What was asked for, such as `cuda:0`.
        wanted: String,
        /// What is missing and what to do.
        why: String,
    },
    /// The input does not fit the model: sizes, lengths, token numbers.
    #[error("{0}")]
    BadInput(String),
    /// The loss or the gradient is no finite number.
    #[error("training diverged at step {step}: the loss is no finite number")]
    Diverged {
        /// The step of the task, from 1.
        step: u32,
    },
    /// The caller asked to stop.
    #[error("stopped")]
    Stopped,
    /// Anything else that libtorch reports.
    #[error("libtorch: {0}")]
    Libtorch(String),
}

impl EngineError {
    /// Shorthand for [`EngineError::BadInput`].
    pub(crate) fn input(text: impl Into<String>) -> Self {
        Self::BadInput(text.into())
    }

    /// Whether less work at once may help.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::OutOfMemory(_))
    }
}

impl From<TchError> for EngineError {
    fn from(error: TchError) -> Self {
        let text = error.to_string();
        // C++ exceptions carry a stack trace below the first line.
        let line = text.lines().next().unwrap_or_default();
        let line = line.strip_prefix("Internal torch error: ").unwrap_or(line).trim().to_owned();
        let lower = text.to_ascii_lowercase();
        let memory = [
            "out of memory",
            "can't allocate memory",
            "std::bad_alloc",
            "cudaerrormemoryallocation",
            // cuBLAS and cuDNN, for their own work space.
            "_status_alloc_failed",
        ];
        if memory.iter().any(|sign| lower.contains(sign)) { Self::OutOfMemory(line) } else { Self::Libtorch(line) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_errors_are_told_apart() {
        let cases = [
            ("CUDA out of memory. Tried to allocate 20.00 MiB.\nframe #0", true),
            (
                "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried",
                true,
            ),
            ("std::bad_alloc", true),
            ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", true),
            ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", true),
            ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`", false),
            ("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)\nException raised", false),
        ];
        for (text, memory) in cases {
            let error = EngineError::from(TchError::Torch(text.into()));
            assert_eq!(error.is_out_of_memory(), memory, "{text}");
            assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn the_allocator_says_so_itself() {
        let error = tch::Tensor::f_zeros([1 << 50], (tch::Kind::Float, tch::Device::Cpu)).map(|_| ());
        let error = EngineError::from(error.expect_err("a petabyte does not fit"));
        assert!(error.is_out_of_memory(), "{error}");
    }
}
