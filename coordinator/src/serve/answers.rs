//! Answers: a thread that draws text while training goes on, for many queries at once.
//!
//! An answer comes from one model from its first token to its last, whatever is published meanwhile. Queries join
//! and leave the thread's batch between two tokens; what runs beside an answer changes nothing in it. Whose answers are
//! fewest comes next, and nobody has more than three quarters of the places. Other threads help with products and
//! attention, so that each weight is read once a token for all answers. Pieces are whole characters, sent as they come.

mod best;
mod outgoing;
mod queue;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use hydra_core::hub::{Fact, QueryNo, Sampling};
use hydra_core::ids::UserName;
use hydra_core::proto::Finish;
use hydra_engine::{DecodeBatch, Decoder, Drawn, EngineError, Stream, Team};

use self::best::{Best, LaidOut};
pub use self::outgoing::Outgoing;
use self::queue::{Next, Queue};
use super::served::Source;
use crate::data::{Dataset, PieceDecoder};

/// Threads, at most, that work at answers, the one that draws included: training needs the others.
const TEAM: usize = 4;

/// Answers that are drawn at one time; further ones wait their turn.
const STREAMS: usize = 32;

/// A prompt to answer.
pub struct Job {
    pub query: QueryNo,
    pub user: UserName,
    pub prompt: String,
    /// Whether the prompt is given to the model as it is, and the form's stops do not apply.
    pub raw: bool,
    /// The query's own stops.
    pub stops: Vec<String>,
    pub sampling: Sampling,
    pub stop: Arc<AtomicBool>,
}

/// How prompts and answers are dressed.
#[derive(Debug, Clone)]
pub struct Form {
    /// Holds `{prompt}`.
    pub template: String,
    /// Texts that end an answer.
    pub stops: Vec<String>,
}

/// The driver's end; when it is dropped, the thread ends.
pub struct Answers {
    queue: Arc<Queue>,
    best: Arc<Best>,
}

impl Answers {
    /// Has a prompt answered when its turn comes, from what is best then.
    pub fn put(&self, job: Job) {
        self.queue.put(job);
    }

    /// Nobody wants this answer any more; one that has begun is told by its own flag.
    pub fn cancel(&self, query: QueryNo) {
        self.queue.cancel(query);
    }

    /// What answers that are still to begin are drawn from.
    pub fn answer_from(&self, source: Source) {
        self.best.set(source);
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Starts the thread; what becomes of the answers it `report`s to the hub.
pub fn spawn(
    data: &Arc<Dataset>,
    form: &Form,
    source: Source,
    report: impl Fn(Fact) + Send + 'static,
) -> std::io::Result<(Answers, JoinHandle<()>)> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let queue = Arc::new(Queue::new(STREAMS * 3 / 4));
    let answers = Answers { queue: queue.clone(), best: Arc::new(Best::new(source)) };
    let desk = Desk { data: data.clone(), form: form.clone(), queue, best: answers.best.clone() };
    let team = Team::new(TEAM.min(cores) - 1)?;
    let thread = std::thread::Builder::new().name("answers".to_owned()).spawn(move || desk.serve(team, &report))?;
    Ok((answers, thread))
}

/// What the thread answers with.
struct Desk {
    data: Arc<Dataset>,
    form: Form,
    queue: Arc<Queue>,
    best: Arc<Best>,
}

/// One answer in the making.
struct Answer {
    query: QueryNo,
    user: UserName,
    stop: Arc<AtomicBool>,
    stream: Stream,
    pieces: PieceDecoder,
    text: Outgoing,
    tokens: u32,
    said: bool,
}

impl Desk {
    fn serve(&self, mut team: Team, report: &impl Fn(Fact)) {
        // Whoever asks first does not wait for what is made at first use; a failure is told to whoever asks.
        drop((self.best.take(), self.data.tokenizer.encode(&self.form.template)));
        let mut batch = DecodeBatch::default();
        let mut running: Vec<Answer> = Vec::new();
        loop {
            running.retain(|answer| !answer.stop.load(Ordering::Relaxed));
            while running.len() < STREAMS {
                match self.queue.next(running.iter().map(|answer| &answer.user)) {
                    Next::Job(job) => running.extend(self.admit(&job, report)),
                    Next::Closed if running.is_empty() => return,
                    Next::Closed | Next::Nothing => break,
                }
            }
            let mut streams: Vec<_> = running.iter_mut().map(|answer| &mut answer.stream).collect();
            let mut drawn = batch.step(&mut streams, &mut team).into_iter();
            running.retain_mut(|answer| self.take(answer, drawn.next().unwrap_or(Drawn::End), report));
        }
    }

    /// Begins an answer, unless nobody wants it any more or it cannot be begun.
    fn admit(&self, job: &Job, report: &impl Fn(Fact)) -> Option<Answer> {
        if job.stop.load(Ordering::Relaxed) {
            return None;
        }
        let query = job.query;
        match self.best.take().and_then(|from| Ok((self.begin(job, &from.decoder)?, from))) {
            Ok((answer, LaidOut { version, averaged, .. })) => {
                report(Fact::Begun { query, version, averaged });
                Some(answer)
            }
            Err(error) => {
                tracing::error!(%error, "an answer failed");
                report(Fact::AnswerFailed { query, text: format!("the model could not answer: {error}") });
                None
            }
        }
    }

    fn begin(&self, job: &Job, from: &Arc<Decoder>) -> Result<Answer, EngineError> {
        let tokenizer = &self.data.tokenizer;
        let mut stops = job.stops.clone();
        let prompt = if job.raw {
            tokenizer.encode(&job.prompt)
        } else {
            stops.extend_from_slice(&self.form.stops);
            tokenizer.encode(&self.form.template.replace("{prompt}", job.prompt.trim_end()))
        };
        let sampling = hydra_engine::Sampling {
            max_new_tokens: job.sampling.max_new_tokens as usize,
            temperature: job.sampling.temperature,
            top_k: job.sampling.top_k as usize,
            top_p: job.sampling.top_p,
            seed: job.sampling.seed,
            allowed: 0..tokenizer.vocab_size(),
        };
        let stream = Stream::new(from, &prompt, sampling)?;
        Ok(Answer {
            query: job.query,
            user: job.user.clone(),
            stop: job.stop.clone(),
            stream,
            pieces: PieceDecoder::new(),
            text: Outgoing::new(stops, job.raw),
            tokens: 0,
            said: false,
        })
    }

    /// Takes what a step brought a stream; whether it goes on.
    fn take(&self, answer: &mut Answer, drawn: Drawn, report: &impl Fn(Fact)) -> bool {
        let tokenizer = &self.data.tokenizer;
        let query = answer.query;
        let mut finish = Finish::Length;
        if drawn == Drawn::Reading {
            return true;
        }
        if let Drawn::Token(token) = drawn {
            if token == tokenizer.end_of_text() {
                finish = Finish::Stop;
            } else {
                answer.tokens += 1;
                let text = answer.text.push(&answer.pieces.push(tokenizer, token));
                answer.say(text, report);
                if !answer.text.stopped {
                    return true;
                }
                finish = Finish::Stop;
            }
        }
        if !answer.text.stopped {
            let last = answer.text.push(&answer.pieces.flush()) + &answer.text.rest();
            answer.say(last, report);
        }
        report(if answer.said {
            Fact::Answered { query, tokens: answer.tokens, finish }
        } else {
            let text = match finish {
                Finish::Length if answer.tokens > 0 => {
                    "the model had nothing to say but white space; ask for more tokens, or in other words"
                }
                _ => "the model had nothing to say; ask again or in other words",
            };
            Fact::AnswerFailed { query, text: text.to_owned() }
        });
        false
    }
}

impl Answer {
    fn say(&mut self, text: String, report: &impl Fn(Fact)) {
        if !text.is_empty() {
            self.said = true;
            report(Fact::Piece { query: self.query, text, tokens: self.tokens });
        }
    }
}
