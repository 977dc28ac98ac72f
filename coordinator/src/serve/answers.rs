//! Answers: threads that draw text while training goes on, each for many queries at once.
//!
//! An answer comes from one model from its first token to its last, whatever is published meanwhile. Queries join
//! and leave a thread's batch between two tokens; what runs beside an answer changes nothing in it. Whose answers are
//! fewest comes next, and nobody has more than three quarters of the places. A thread takes one
//! new query a token, so that many that come together are shared evenly. Where only one thread draws, others help it
//! with its products. Pieces are whole characters, sent as they come.

mod best;
mod outgoing;
mod queue;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use hydra_core::hub::{Fact, QueryNo, Sampling};
use hydra_core::ids::UserName;
use hydra_core::proto::Finish;
use hydra_engine::{DecodeBatch, Decoder, Drawn, EngineError, Stream, Team};

use self::best::{Best, LaidOut};
pub use self::outgoing::Outgoing;
use self::queue::{Next, Queue, Seat};
use super::served::Source;
use crate::data::{Dataset, PieceDecoder};

/// Threads, at most: a second core halves the wait where there are several queries, and training needs the others.
const THREADS: usize = 2;

/// Threads that work at the products of one such thread's answers, itself included, while the other one is idle.
const TEAM: usize = 4;

/// Answers that a thread draws at one time; further ones wait their turn.
const STREAMS: usize = 16;

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

/// The driver's end; when it is dropped, the threads end.
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

/// Starts the threads; what becomes of the answers they `report` to the hub.
pub fn spawn(
    data: &Arc<Dataset>,
    form: &Form,
    source: Source,
    report: impl Fn(Fact) + Send + Clone + 'static,
) -> std::io::Result<(Answers, Vec<JoinHandle<()>>)> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let queue = Arc::new(Queue::new(STREAMS * THREADS.min(cores) * 3 / 4));
    let answers = Answers { queue, best: Arc::new(Best::new(source)) };
    let team = Arc::new(Mutex::new(Team::new(TEAM.min(cores) - 1)?));
    let busy = Arc::new(AtomicUsize::new(0));
    let threads = (0..THREADS.min(cores))
        .map(|n| {
            let (queue, best) = (answers.queue.clone(), answers.best.clone());
            let (data, form, report) = (data.clone(), form.clone(), report.clone());
            let desk = Desk { data, form, queue, best, team: team.clone(), busy: busy.clone() };
            std::thread::Builder::new().name(format!("answers-{n}")).spawn(move || desk.serve(&report))
        })
        .collect::<std::io::Result<_>>()?;
    Ok((answers, threads))
}

/// What a thread answers with.
struct Desk {
    data: Arc<Dataset>,
    form: Form,
    queue: Arc<Queue>,
    best: Arc<Best>,
    /// Helps the only thread that draws.
    team: Arc<Mutex<Team>>,
    /// Threads that draw.
    busy: Arc<AtomicUsize>,
}

/// One answer in the making.
struct Answer {
    query: QueryNo,
    stop: Arc<AtomicBool>,
    stream: Stream,
    pieces: PieceDecoder,
    text: Outgoing,
    tokens: u32,
    said: bool,
    _seat: Seat,
}

impl Desk {
    fn serve(&self, report: &impl Fn(Fact)) {
        let mut batch = DecodeBatch::default();
        let mut alone = Team::default();
        let mut running: Vec<Answer> = Vec::new();
        let mut draws = false;
        loop {
            running.retain(|answer| !answer.stop.load(Ordering::Relaxed));
            if draws && running.is_empty() {
                draws = false;
                self.busy.fetch_sub(1, Ordering::Relaxed);
            }
            if running.len() < STREAMS {
                match self.queue.next(running.is_empty()) {
                    Next::Job(job, _) if job.stop.load(Ordering::Relaxed) => continue,
                    Next::Job(job, seat) => {
                        let query = job.query;
                        let begin = |from: LaidOut| Ok((self.begin(&job, seat, &from.decoder)?, from));
                        let begun = self.best.take().and_then(begin);
                        match begun {
                            Ok((answer, LaidOut { version, averaged, .. })) => {
                                report(Fact::Begun { query, version, averaged });
                                running.push(answer);
                            }
                            Err(error) => {
                                tracing::error!(%error, "an answer failed");
                                let text = format!("the model could not answer: {error}");
                                report(Fact::AnswerFailed { query, text });
                                continue;
                            }
                        }
                    }
                    Next::Closed if running.is_empty() => return,
                    Next::Closed | Next::Nothing => {}
                }
            }
            if !draws {
                draws = true;
                self.busy.fetch_add(1, Ordering::Relaxed);
            }
            // Where both threads draw, every core that answers may have is in use already.
            let mut lent = (self.busy.load(Ordering::Relaxed) == 1).then(|| self.team.try_lock().ok()).flatten();
            let mut streams: Vec<_> = running.iter_mut().map(|answer| &mut answer.stream).collect();
            let team = lent.as_deref_mut().unwrap_or(&mut alone);
            let mut drawn = batch.step(&mut streams, team).into_iter();
            running.retain_mut(|answer| self.take(answer, drawn.next().unwrap_or(Drawn::End), report));
        }
    }

    fn begin(&self, job: &Job, seat: Seat, from: &Arc<Decoder>) -> Result<Answer, EngineError> {
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
            stop: job.stop.clone(),
            stream,
            pieces: PieceDecoder::new(),
            text: Outgoing::new(stops, job.raw),
            tokens: 0,
            said: false,
            _seat: seat,
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
