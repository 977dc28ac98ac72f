//! Stepping back: threads that compute for minutes leave the processor to whatever needs it for a moment.
//!
//! Training must neither make somebody's machine sluggish nor delay a task that is being pushed on the same machine.

/// Lowers the calling thread's priority, and that of threads that it starts from here on. Without effect where the
/// system sets priorities for whole processes only.
pub fn step_back() {
    // On Linux niceness belongs to the thread.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(10) {
        tracing::debug!(%error, "the thread keeps its priority");
    }
}
