//! Samples for the screen and the page: one fixed prompt, answered by the versions that are measured, free of charge.
//!
//! Drawn on the evaluator's thread, which has stepped back, so that no query waits for one; greedily, so that two
//! versions differ by what they learnt alone; short, seldom, and only while somebody watches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hydra_engine::{DecodeBatch, Decoder, Drawn, EngineError, Stream, Team};
use hydra_shell::clock::wall_ms;
use tokio::sync::mpsc;

use super::answers::{Form, Outgoing};
use super::board::Board;
use super::eval::Score;
use super::samples::Samples;
use super::served::Source;
use crate::data::{Dataset, PieceDecoder};
use crate::screen::{Msg, Sample};

/// The shortest time between two samples.
const EVERY: Duration = Duration::from_secs(3);
/// A sample may cost a twentieth of the thread's time.
const SHARE: u32 = 20;
/// New tokens of one at most.
const TOKENS: usize = 64;
/// A sample that takes longer is cut.
const LONGEST: Duration = Duration::from_secs(2);

/// Who looks at the samples.
pub struct Audience {
    pub screen: Option<mpsc::Sender<Msg>>,
    pub board: Arc<Board>,
}

impl Audience {
    fn watches(&self) -> bool {
        self.screen.as_ref().is_some_and(|screen| !screen.is_closed()) || self.board.is_watched()
    }

    fn tell(&self, sample: Sample) {
        self.board.sample(sample.clone());
        if let Some(screen) = &self.screen {
            // One that the screen has no room for is missed; the next comes soon.
            let _ = screen.try_send(Msg::Sample(sample));
        }
    }
}

/// Draws the samples.
pub struct Sampler {
    samples: Samples,
    form: Form,
    audience: Audience,
    next: Option<Instant>,
    /// The newest measured version, if it was too early for it.
    early: Option<(Source, Score)>,
}

impl Sampler {
    /// A sampler for these; nothing without a prompt.
    pub fn new(samples: Samples, form: Form, audience: Audience) -> Option<Self> {
        (!samples.prompt.is_empty()).then(|| Self { samples, form, audience, next: None, early: None })
    }

    /// How long the newest version still has to wait for its turn, if it does.
    pub fn waits(&self) -> Option<Duration> {
        let next = self.next.filter(|_| self.early.is_some())?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Has the version answer whose turn it is now.
    pub fn catch_up(&mut self, data: &Dataset) {
        if let Some((source, score)) = self.early.take() {
            self.sample(&source, &score, data);
        }
    }

    /// Has a version answer, if it is time.
    pub fn sample(&mut self, source: &Source, score: &Score, data: &Dataset) {
        let began = Instant::now();
        self.early = None;
        if !self.audience.watches() {
            return;
        }
        if self.next.is_some_and(|next| began < next) {
            self.early = Some((source.clone(), *score));
            return;
        }
        match self.draw(source, data, began) {
            Ok(text) => {
                let sample = Sample { version: score.version, loss: score.loss, text, at_ms: wall_ms() };
                self.samples.add(&sample);
                self.audience.tell(sample);
            }
            Err(error) => tracing::warn!(%error, version = %score.version, "a sample could not be drawn"),
        }
        self.next = Some(began + EVERY.max(began.elapsed() * SHARE));
    }

    fn draw(&self, source: &Source, data: &Dataset, began: Instant) -> Result<String, EngineError> {
        let tokenizer = &data.tokenizer;
        let prompt = tokenizer.encode(&self.form.template.replace("{prompt}", &self.samples.prompt));
        let sampling = hydra_engine::Sampling {
            max_new_tokens: TOKENS,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            seed: 0,
            allowed: 0..tokenizer.vocab_size(),
        };
        let decoder = Arc::new(Decoder::new(source.shape, &source.weights)?);
        let mut stream = Stream::new(&decoder, &prompt, sampling)?;
        let (mut batch, mut alone) = (DecodeBatch::default(), Team::default());
        let (mut pieces, mut out, mut text) =
            (PieceDecoder::new(), Outgoing::new(self.form.stops.clone(), false), String::new());
        loop {
            let token = match batch.step(&mut [&mut stream], &mut alone)[..] {
                [Drawn::Token(token)] => token,
                [Drawn::Reading] => continue,
                _ => break,
            };
            if token == tokenizer.end_of_text() {
                break;
            }
            text.push_str(&out.push(&pieces.push(tokenizer, token)));
            if out.stopped {
                return Ok(text);
            }
            if began.elapsed() > LONGEST {
                return Ok(text + &out.rest() + "…");
            }
        }
        text.push_str(&out.push(&pieces.flush()));
        Ok(text + &out.rest())
    }
}
