//! The hub's events for people and scripts.

use hydra_core::hub::Event;
use hydra_core::proto::RefusedCode;
use hydra_shell::events::{Events, name};

/// Where the lines come from, in few letters: the screen's log is narrow.
const RUN: &str = "run";

/// Prints an event: JSON for scripts if wanted, a line for people unless it is too frequent to read.
pub fn tell(events: &Events, event: &Event) {
    events.emit(event);
    match event {
        Event::Joined { worker, user } => tracing::info!(target: RUN, %user, %worker, "a worker joined"),
        Event::Left { worker, user, reason } => tracing::info!(target: RUN, %user, reason, %worker, "a worker left"),
        Event::Pushed { task, worker, wait_us, .. } => {
            tracing::debug!(target: RUN, %task, %worker, wait_us, "a task was pushed");
        }
        Event::Accepted { task, worker, user, amount } => {
            tracing::info!(target: RUN, %user, %amount, %task, %worker, "a task was accepted and paid");
        }
        Event::Rejected { task, worker, user, reason } => {
            tracing::warn!(target: RUN, %user, reason = name(reason), %task, %worker, "a task was not paid");
        }
        Event::Codec { worker, user, codec, before, send_ms, task_ms } => {
            tracing::info!(
                target: RUN, %user, ?codec, ?before, send_ms, task_ms, %worker,
                "a worker's updates are written in another way: sending should take at most a twentieth of a task"
            );
        }
        Event::Round { version, updates, tokens, val_loss, val_bits_per_byte, seconds, .. } => {
            tracing::info!(
                target: RUN, %version, updates, tokens, val_loss = %format_args!("{val_loss:.3}"),
                val_bits_per_byte = %format_args!("{val_bits_per_byte:.3}"), seconds = %format_args!("{seconds:.1}"),
                "a round was merged into a new version"
            );
        }
        Event::Query { user, version, averaged, tokens, first_ms, total_ms, charged, .. } => {
            tracing::info!(
                target: RUN, %user, %version, averaged, tokens, first_ms, total_ms, %charged, "a query was answered"
            );
        }
        Event::Refused { user, reason: RefusedCode::Cancelled, begun: false, .. } => {
            tracing::info!(target: RUN, %user, "a query was taken back before its answer began; nothing was charged");
        }
        Event::Refused { user, reason: RefusedCode::Cancelled, begun: true, .. } => {
            tracing::info!(target: RUN, %user, "who asked was gone before the answer's end; nothing was charged");
        }
        Event::Refused { user, reason, .. } => {
            tracing::info!(target: RUN, %user, reason = name(reason), "a query was refused");
        }
    }
}
