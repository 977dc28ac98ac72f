//! Continuing a prompt token by token, with the keys and values of everything before kept.

use crate::graph::{Cache, indexes};
use crate::sample::Sampler;
pub use crate::sample::Sampling;
use crate::{EngineError, Model, Result};

/// An answer in the making: call [`Generator::next_token`] until `None`.
///
/// When the context is full, the oldest half of it is forgotten and the rest is read anew.
pub struct Generator<'a> {
    model: &'a Model,
    sampler: Sampler,
    cache: Cache,
    /// Tokens that the model sees: those in the cache, then those not read yet.
    seen: Vec<u16>,
    left: usize,
    logits: Vec<f32>,
}

impl<'a> Generator<'a> {
    pub(crate) fn new(model: &'a Model, prompt: &[u16], sampling: Sampling) -> Result<Self> {
        if prompt.is_empty() {
            return Err(EngineError::input("a prompt has at least one token"));
        }
        let context = model.shape.context as usize;
        let most = (context - context / 4).max(1);
        let seen = prompt[prompt.len().saturating_sub(most)..].to_vec();
        let cache = Cache::new(&model.shape, model.device.torch)?;
        let left = sampling.max_new_tokens;
        let logits = vec![0.0; model.shape.vocab as usize];
        Ok(Self { model, sampler: Sampler::new(sampling), cache, seen, left, logits })
    }

    /// The next token; `None` after the longest answer, or if no token is allowed.
    pub fn next_token(&mut self) -> Result<Option<u16>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.read()?;
        let Some(token) = self.sampler.draw(&self.logits) else { return Ok(None) };
        self.left -= 1;
        self.seen.push(token);
        Ok(Some(token))
    }

    /// Takes what is not read yet through the network; leaves the logits after the last token.
    fn read(&mut self) -> Result<()> {
        let context = self.model.shape.context as usize;
        if self.seen.len() > context {
            self.seen.drain(..self.seen.len() - context / 2);
            self.cache.used = 0;
        }
        let threads = self.model.threads_for_one_stream();
        if tch::get_num_threads() != threads {
            tch::set_num_threads(threads);
        }
        let _guard = tch::no_grad_guard();
        let fresh = &self.seen[self.cache.used as usize..];
        let tokens = indexes(std::iter::once(fresh), fresh.len(), self.model.device.torch)?;
        let stream = self.model.graph.stream(&tokens, Some(&mut self.cache))?;
        let last = stream.f_narrow(0, fresh.len() as i64 - 1, 1)?;
        let logits = self.model.graph.logits(&last)?.f_to_device(tch::Device::Cpu)?;
        let length = self.logits.len();
        Ok(logits.f_contiguous()?.f_copy_data(&mut self.logits, length)?)
    }
}
