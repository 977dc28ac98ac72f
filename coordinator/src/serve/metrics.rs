//! What the coordinator counts, for Prometheus at `/metrics`.

use hydra_core::hub::Event;
use hydra_core::proto::Status;
use hydra_shell::events::name;
use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Counters without labels. An alarm on one that does not exist yet cannot go off, so they begin at zero.
const COUNTERS: [&str; 10] = [
    "hydra_slow_readers_total",
    "hydra_tasks_pushed_total",
    "hydra_tasks_accepted_total",
    "hydra_micro_credits_paid_total",
    "hydra_rounds_total",
    "hydra_bytes_up_total",
    "hydra_bytes_down_total",
    "hydra_queries_answered_total",
    "hydra_answer_tokens_total",
    "hydra_micro_credits_charged_total",
];

/// Begins to count.
pub fn install() -> anyhow::Result<PrometheusHandle> {
    let micros = [50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 100_000.0, 1_000_000.0];
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full("hydra_push_wait_us".into()), &micros)?
        .install_recorder()?;
    begin();
    Ok(handle)
}

fn begin() {
    for name in COUNTERS {
        counter!(name).increment(0);
    }
    gauge!("hydra_sessions").set(0.0);
}

/// A task was handed to a socket.
pub fn pushed(wait_us: u64) {
    counter!("hydra_tasks_pushed_total").increment(1);
    histogram!("hydra_push_wait_us").record(wait_us as f64);
}

/// A connection was not taken.
pub fn refused(reason: &'static str) {
    counter!("hydra_connections_refused_total", "reason" => reason).increment(1);
}

/// A session began.
pub fn opened() {
    gauge!("hydra_sessions").increment(1.0);
}

/// It ended.
pub fn closed(reason: &'static str) {
    gauge!("hydra_sessions").decrement(1.0);
    counter!("hydra_sessions_closed_total", "reason" => reason).increment(1);
}

/// A session is cut because what it is sent piles up.
pub fn slow_reader() {
    counter!("hydra_slow_readers_total").increment(1);
}

/// An OpenAI-style request was answered, or refused.
pub fn requested(status: u16) {
    counter!("hydra_api_requests_total", "status" => status.to_string()).increment(1);
}

/// Counts an event, and shows where the run stands after it.
pub fn count(event: &Event, status: &Status) {
    match event {
        Event::Accepted { amount, .. } => {
            counter!("hydra_tasks_accepted_total").increment(1);
            counter!("hydra_micro_credits_paid_total").increment(amount.0);
        }
        Event::Rejected { reason, .. } => {
            counter!("hydra_tasks_rejected_total", "reason" => name(reason)).increment(1);
        }
        Event::Round { bytes_up, bytes_down, .. } => {
            counter!("hydra_rounds_total").increment(1);
            counter!("hydra_bytes_up_total").increment(*bytes_up);
            counter!("hydra_bytes_down_total").increment(*bytes_down);
        }
        Event::Query { tokens, charged, first_ms, .. } => {
            counter!("hydra_queries_answered_total").increment(1);
            counter!("hydra_answer_tokens_total").increment(u64::from(*tokens));
            counter!("hydra_micro_credits_charged_total").increment(charged.0);
            histogram!("hydra_query_first_ms").record(*first_ms as f64);
        }
        Event::Refused { reason, .. } => {
            counter!("hydra_queries_refused_total", "reason" => name(reason)).increment(1);
        }
        Event::Codec { codec, .. } => counter!("hydra_codec_changes_total", "codec" => name(codec)).increment(1),
        Event::Joined { .. } | Event::Left { .. } | Event::Pushed { .. } => {}
    }
    show(status);
}

/// Shows where the run stands.
pub fn show(status: &Status) {
    gauge!("hydra_workers").set(f64::from(status.workers));
    gauge!("hydra_version").set(status.version.0 as f64);
    gauge!("hydra_tokens").set(status.tokens as f64);
    if let Some(loss) = status.val_loss {
        gauge!("hydra_val_loss").set(loss);
    }
    if let Some(bits) = status.val_bits_per_byte {
        gauge!("hydra_val_bits_per_byte").set(bits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_alarms_look_at_is_there_before_anything_happens() {
        let recorder = PrometheusBuilder::new().build_recorder();
        ::metrics::with_local_recorder(&recorder, begin);
        let text = recorder.handle().render();
        for name in COUNTERS.into_iter().chain(["hydra_sessions"]) {
            assert!(text.contains(&format!("\n{name} 0\n")), "{name} in {text}");
        }
    }
}
