//! The hub's events for people and scripts.

use hydra_core::hub::Event;
use hydra_shell::events::Events;

/// Prints an event: JSON for scripts if wanted, a line for people unless it is too frequent to read.
pub fn tell(events: &Events, event: &Event) {
    events.emit(event);
    match event {
        Event::Joined { worker, user } => tracing::info!(%worker, %user, "a worker joined"),
        Event::Left { worker, user, reason } => tracing::info!(%worker, %user, reason, "a worker left"),
        Event::Pushed { task, worker, wait_us, .. } => tracing::debug!(%task, %worker, wait_us, "a task was pushed"),
        Event::Accepted { task, worker, user, amount } => {
            tracing::info!(%task, %worker, %user, %amount, "a task was accepted and paid");
        }
        Event::Rejected { task, worker, user, reason } => {
            tracing::warn!(%task, %worker, %user, ?reason, "an update was not accepted");
        }
        Event::Codec { worker, user, codec, before, send_ms, task_ms } => {
            tracing::info!(
                %worker, %user, ?codec, ?before, send_ms, task_ms,
                "a worker's updates are written in another way: sending should take at most a twentieth of a task"
            );
        }
        Event::Round { version, updates, tokens, val_loss, val_bits_per_byte, seconds, .. } => {
            tracing::info!(
                %version, updates, tokens, val_loss, val_bits_per_byte, seconds,
                "a round was merged into a new version"
            );
        }
        Event::Query { user, version, tokens, first_ms, total_ms, charged, .. } => {
            tracing::info!(%user, %version, tokens, first_ms, total_ms, %charged, "a query was answered");
        }
        Event::Refused { user, reason, .. } => tracing::info!(%user, ?reason, "a query was refused"),
    }
}
