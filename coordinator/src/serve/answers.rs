//! Answers: threads that draw text while training goes on, each for many queries at once.
//!
//! An answer comes from one model from its first token to its last, whatever is published meanwhile. Queries join
//! and leave a thread's batch between two tokens; what runs beside an answer changes nothing in it. A thread takes one
//! new query a token, so that many that come together are shared evenly. Where only one thread draws, others help it
//! with its products. Pieces are whole characters, sent as they come.

mod outgoing;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::JoinHandle;

use hydra_core::hub::{QueryNo, Sampling};
use hydra_core::ids::VersionNo;
use hydra_core::proto::Finish;
use hydra_engine::{DecodeBatch, Decoder, EngineError, Stream, Team};

pub use self::outgoing::Outgoing;
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
    pub prompt: String,
    /// Whether the prompt is given to the model as it is, and the form's stops do not apply.
    pub raw: bool,
    /// The query's own stops.
    pub stops: Vec<String>,
    pub sampling: Sampling,
    pub from: Source,
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
    form: &Form,
    report: impl Fn(Report) + Send + Clone + 'static,
) -> std::io::Result<(Sender<Job>, Vec<JoinHandle<()>>)> {
    let (jobs, taken) = channel();
    let (taken, newest) = (Arc::new(Mutex::new(taken)), Arc::new(Mutex::new(None)));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let team = Arc::new(Mutex::new(Team::new(TEAM.min(cores) - 1)?));
    let busy = Arc::new(AtomicUsize::new(0));
    let threads = (0..THREADS.min(cores))
        .map(|n| {
            let (data, form, newest) = (data.clone(), form.clone(), newest.clone());
            let desk = Desk { data, form, newest, team: team.clone(), busy: busy.clone() };
            let (taken, report) = (taken.clone(), report.clone());
            std::thread::Builder::new().name(format!("answers-{n}")).spawn(move || desk.serve(&taken, &report))
        })
        .collect::<std::io::Result<_>>()?;
    Ok((jobs, threads))
}

/// A version, whether it is the average up to it, and the weights laid out for drawing.
type Newest = Arc<Mutex<Option<((VersionNo, bool), Arc<Decoder>)>>>;

/// What a thread answers with.
struct Desk {
    data: Arc<Dataset>,
    form: Form,
    /// The newest that anybody asked; shared by the threads.
    newest: Newest,
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
}

/// What waits for a thread.
enum Next {
    Job(Box<Job>),
    Nothing,
    /// There will be no more.
    Closed,
}

/// The next job; with `wait`, waits for one.
fn next(taken: &Mutex<Receiver<Job>>, wait: bool) -> Next {
    let found = if wait {
        taken.lock().unwrap_or_else(PoisonError::into_inner).recv().map_err(|_| TryRecvError::Disconnected)
    } else {
        match taken.try_lock() {
            Ok(taken) => taken.try_recv(),
            Err(TryLockError::Poisoned(taken)) => taken.into_inner().try_recv(),
            // An idle thread waits there, and has more time for the job.
            Err(TryLockError::WouldBlock) => Err(TryRecvError::Empty),
        }
    };
    match found {
        Ok(job) => Next::Job(Box::new(job)),
        Err(TryRecvError::Empty) => Next::Nothing,
        Err(TryRecvError::Disconnected) => Next::Closed,
    }
}

impl Desk {
    fn serve(&self, taken: &Mutex<Receiver<Job>>, report: &impl Fn(Report)) {
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
                match next(taken, running.is_empty()) {
                    Next::Job(job) if job.stop.load(Ordering::Relaxed) => continue,
                    Next::Job(job) => match self.begin(&job) {
                        Ok(answer) => running.push(answer),
                        Err(error) => {
                            tracing::error!(%error, "an answer failed");
                            let text = format!("the model could not answer: {error}");
                            report(Report::Failed { query: job.query, text });
                            continue;
                        }
                    },
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
            let mut tokens = batch.step(&mut streams, team).into_iter();
            running.retain_mut(|answer| self.take(answer, tokens.next().flatten(), report));
        }
    }

    fn begin(&self, job: &Job) -> Result<Answer, EngineError> {
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
        let stream = Stream::new(&self.decoder(&job.from)?, &prompt, sampling)?;
        Ok(Answer {
            query: job.query,
            stop: job.stop.clone(),
            stream,
            pieces: PieceDecoder::new(),
            text: Outgoing::new(stops, job.raw),
            tokens: 0,
            said: false,
        })
    }

    /// The weights as streams read them; those older than the newest are laid out for their answer alone.
    fn decoder(&self, from: &Source) -> Result<Arc<Decoder>, EngineError> {
        let which = (from.version, from.averaged);
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*newest {
            Some((laid_out, decoder)) if *laid_out == which => return Ok(decoder.clone()),
            Some((laid_out, _)) if *laid_out > which => {
                drop(newest);
                return Ok(Arc::new(Decoder::new(from.shape, &from.weights)?));
            }
            _ => {}
        }
        let decoder = Arc::new(Decoder::new(from.shape, &from.weights)?);
        *newest = Some((which, decoder.clone()));
        Ok(decoder)
    }

    /// Takes a stream's next token, or its end; whether it goes on.
    fn take(&self, answer: &mut Answer, token: Option<u16>, report: &impl Fn(Report)) -> bool {
        let tokenizer = &self.data.tokenizer;
        let query = answer.query;
        let mut finish = Finish::Length;
        if let Some(token) = token {
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
            Report::Answered { query, tokens: answer.tokens, finish }
        } else {
            let text = match finish {
                Finish::Length if answer.tokens > 0 => {
                    "the model had nothing to say but white space; ask for more tokens, or in other words"
                }
                _ => "the model had nothing to say; ask again or in other words",
            };
            Report::Failed { query, text: text.to_owned() }
        });
        false
    }
}

impl Answer {
    fn say(&mut self, text: String, report: &impl Fn(Report)) {
        if !text.is_empty() {
            self.said = true;
            report(Report::Piece { query: self.query, text });
        }
    }
}
