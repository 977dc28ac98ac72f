//! Answers: threads that draw text from a version while training goes on.
//!
//! An answer comes from one version from its first token to its last. Pieces are whole characters; text that may be
//! the beginning of a stop is kept back until it is clear that it is none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use hydra_core::hub::{QueryNo, Sampling};
use hydra_core::proto::Finish;
use hydra_engine::{Device, EngineError};

use super::served::Served;
use crate::data::{Dataset, PieceDecoder};

/// Answers that are drawn at one time; further ones wait their turn.
const THREADS: usize = 2;

/// A prompt to answer.
pub struct Job {
    pub query: QueryNo,
    pub prompt: String,
    pub sampling: Sampling,
    pub from: Arc<Served>,
    pub stop: Arc<AtomicBool>,
}

/// What becomes of it.
pub enum Report {
    Piece { query: QueryNo, text: String },
    Answered { query: QueryNo, tokens: u32, finish: Finish },
    Failed { query: QueryNo, text: String },
}

/// How prompts and answers are dressed.
#[derive(Debug, Clone)]
pub struct Form {
    /// Holds `{prompt}`.
    pub template: String,
    /// Texts that end an answer.
    pub stops: Vec<String>,
}

/// Starts the threads; they end when the sender is dropped.
pub fn spawn(
    data: &Arc<Dataset>,
    device: Device,
    form: &Form,
    report: impl Fn(Report) + Send + Sync + Clone + 'static,
) -> std::io::Result<(Sender<Job>, Vec<JoinHandle<()>>)> {
    let (jobs, taken): (_, Receiver<Job>) = channel();
    let taken = Arc::new(Mutex::new(taken));
    let threads = (0..THREADS)
        .map(|n| {
            let (data, form, taken, report) = (data.clone(), form.clone(), taken.clone(), report.clone());
            std::thread::Builder::new().name(format!("answers-{n}")).spawn(move || {
                loop {
                    let job = taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(job) = job else { return };
                    if job.stop.load(Ordering::Relaxed) {
                        continue;
                    }
                    let query = job.query;
                    match answer(&job, &data, device, &form, &report) {
                        Ok(Some((tokens, finish))) => report(Report::Answered { query, tokens, finish }),
                        Ok(None) => {}
                        Err(error) => {
                            tracing::error!(%error, "an answer failed");
                            report(Report::Failed { query, text: format!("the model could not answer: {error}") });
                        }
                    }
                }
            })
        })
        .collect::<std::io::Result<_>>()?;
    Ok((jobs, threads))
}

/// Draws one answer; nothing if it was stopped or the model had nothing to say.
fn answer(
    job: &Job,
    data: &Dataset,
    device: Device,
    form: &Form,
    report: &impl Fn(Report),
) -> Result<Option<(u32, Finish)>, EngineError> {
    let query = job.query;
    let tokenizer = &data.tokenizer;
    let prompt = tokenizer.encode(&form.template.replace("{prompt}", job.prompt.trim_end()));
    let sampling = hydra_engine::Sampling {
        max_new_tokens: job.sampling.max_new_tokens as usize,
        temperature: job.sampling.temperature,
        top_k: job.sampling.top_k as usize,
        top_p: job.sampling.top_p,
        seed: job.sampling.seed,
        allowed: 0..tokenizer.vocab_size(),
    };
    let model = job.from.model(device)?;
    let mut generator = model.generator(&prompt, &sampling)?;
    let (mut decoder, mut text) = (PieceDecoder::new(), Outgoing::new(&form.stops));
    let (mut tokens, mut said, mut finish) = (0, false, Finish::Length);
    let mut say = |piece: String| {
        if !piece.is_empty() {
            said = true;
            report(Report::Piece { query, text: piece });
        }
    };
    while let Some(token) = generator.next_token()? {
        if job.stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if token == tokenizer.end_of_text() {
            finish = Finish::Stop;
            break;
        }
        tokens += 1;
        say(text.push(&decoder.push(tokenizer, token)));
        if text.stopped {
            finish = Finish::Stop;
            break;
        }
    }
    if !text.stopped {
        say(text.push(&decoder.flush()));
        say(text.rest());
    }
    if said {
        return Ok(Some((tokens, finish)));
    }
    report(Report::Failed { query, text: "the model had nothing to say; ask again or in other words".to_owned() });
    Ok(None)
}

/// Text on its way out: without leading white space, up to the first stop.
struct Outgoing<'a> {
    stops: &'a [String],
    kept: String,
    begun: bool,
    stopped: bool,
}

impl<'a> Outgoing<'a> {
    fn new(stops: &'a [String]) -> Self {
        Self { stops, kept: String::new(), begun: false, stopped: false }
    }

    /// Adds text; gives what may go out.
    fn push(&mut self, text: &str) -> String {
        let text = if self.begun { text } else { text.trim_start() };
        self.begun |= !text.is_empty();
        self.kept.push_str(text);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.kept.find(stop.as_str())).min() {
            self.stopped = true;
            self.kept.truncate(at);
            return std::mem::take(&mut self.kept);
        }
        // The longest end of the text with which some stop begins.
        let held = self
            .stops
            .iter()
            .flat_map(|stop| stop.char_indices().map(move |(at, c)| &stop[..at + c.len_utf8()]))
            .filter(|begin| self.kept.ends_with(begin))
            .map(str::len)
            .max()
            .unwrap_or(0);
        let rest = self.kept.split_off(self.kept.len() - held);
        std::mem::replace(&mut self.kept, rest)
    }

    /// What was kept back for a stop that did not come.
    fn rest(&mut self) -> String {
        std::mem::take(&mut self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|&s| s.to_owned()).collect();
        let mut out = Outgoing::new(&stops);
        let mut said = Vec::new();
        for piece in pieces {
            if !out.stopped {
                said.push(out.push(piece));
            }
        }
        let stopped = out.stopped;
        said.push(out.rest());
        (said.into_iter().filter(|s| !s.is_empty()).collect(), stopped)
    }

    #[test]
    fn a_stop_across_pieces_ends_the_text() {
        let (said, stopped) = run(&["\nQuestion:", "\n\n"], &["  Hy", "dra.", "\n", "Ques", "tion: no"]);
        assert_eq!((said.concat().as_str(), stopped), ("Hydra.", true));
        assert_eq!(said, ["Hy", "dra."]);
    }

    #[test]
    fn what_only_looks_like_a_stop_goes_out() {
        let (said, stopped) = run(&["\n\n"], &["a\n", "b", "\n"]);
        assert_eq!((said.concat().as_str(), stopped), ("a\nb\n", false));
        assert_eq!(said, ["a", "\nb", "\n"]);
    }

    #[test]
    fn without_stops_nothing_waits() {
        assert_eq!(run(&[], &[" ", " é", "x"]).0, ["é", "x"]);
    }
}
