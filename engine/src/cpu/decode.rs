//! Drawing tokens on a CPU by hand: weights laid out for few rows, keys and values kept, streams drawn together.
//!
//! One [`DecodeBatch::step`] gives each of its streams its next token. Streams of one [`Decoder`] go through the network
//! together, so that the weights are read once for all of them. Of long prompts a step reads only a part, so that nobody
//! else waits for them. A stream's tokens are the same, bit for bit, whatever else is drawn beside it (`product.rs` says
//! why).

use std::sync::Arc;

use hydra_core::model::Shape;

use super::kept::Kept;
use super::product::Panels;
use super::team::{Span, Team};
use super::wide;
use crate::parts::{Parts, Place, angles};
use crate::sample::{Sampler, Sampling};
use crate::trainer::check_tokens;
use crate::{EngineError, Result};

/// Tokens that streams of one [`Decoder`] read in a step beyond one each.
const AHEAD: usize = 64;

struct Layer {
    norm1: Vec<f32>,
    qkv: Arc<Panels>,
    heads: Vec<f32>,
    out: Arc<Panels>,
    norm2: Vec<f32>,
    gate_up: Arc<Panels>,
    down: Arc<Panels>,
}

/// A model's weights, ready to be read for a few tokens at a time. Never changes: share it behind an `Arc`.
pub struct Decoder {
    shape: Shape,
    embed: Arc<Panels>,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    angles: Vec<f32>,
}

impl Decoder {
    /// Lays flat weights out; as large as they are.
    pub fn new(shape: Shape, weights: &[f32]) -> Result<Self> {
        shape.check().map_err(|e| EngineError::input(e.to_string()))?;
        if weights.len() != shape.params() {
            let text = format!("{} weights where the model has {}", weights.len(), shape.params());
            return Err(EngineError::input(text));
        }
        let take = |place: &Place| &weights[place.offset..][..place.len()];
        let places = Parts::of(&shape);
        // In the order in which they are read.
        let matrices: Vec<_> = places
            .layers
            .iter()
            .flat_map(|layer| [&layer.qkv, &layer.out, &layer.gate_up, &layer.down])
            .chain([&places.embed])
            .map(|place| (take(place), place.size[1] as usize))
            .collect();
        let mut laid_out = Panels::of(&matrices).into_iter().map(Arc::new);
        let mut next = || laid_out.next().expect("as many as were asked for");
        let layers = places.layers.iter().map(|layer| Layer {
            norm1: take(&layer.norm1).to_vec(),
            qkv: next(),
            heads: take(&layer.heads).to_vec(),
            out: next(),
            norm2: take(&layer.norm2).to_vec(),
            gate_up: next(),
            down: next(),
        });
        let layers = layers.collect();
        Ok(Self { shape, embed: next(), layers, norm: take(&places.norm).to_vec(), angles: angles(&shape) })
    }

    /// The model's sizes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// By which a head's numbers are turned at a position: half of them cosines, half sines.
    pub(super) fn angles(&self, position: usize) -> &[f32] {
        let size = self.shape.head_size() as usize;
        &self.angles[position * size..][..size]
    }

    /// A layer's gains of its heads: of queries, then of keys.
    pub(super) fn heads(&self, layer: usize) -> &[f32] {
        &self.layers[layer].heads
    }
}

/// An answer in the making.
///
/// Of a prompt longer than three quarters of the context only the end is read. When the context is full, the oldest
/// half of it is forgotten and the rest is read anew.
pub struct Stream {
    decoder: Arc<Decoder>,
    sampler: Sampler,
    /// Tokens that the model sees: those whose keys and values are kept, then those not read yet.
    seen: Vec<u16>,
    /// Of each layer.
    kept: Vec<Kept>,
    read: usize,
    left: usize,
}

impl Stream {
    /// Begins an answer to `prompt`.
    pub fn new(decoder: &Arc<Decoder>, prompt: &[u16], sampling: Sampling) -> Result<Self> {
        check_tokens(prompt, decoder.shape.vocab)?;
        if prompt.is_empty() {
            return Err(EngineError::input("a prompt has at least one token"));
        }
        let context = decoder.shape.context as usize;
        let most = (context - context / 4).max(1);
        let seen = prompt[prompt.len().saturating_sub(most)..].to_vec();
        let left = sampling.max_new_tokens;
        let room = context.min(seen.len().saturating_add(left));
        let kept = decoder.layers.iter().map(|_| Kept::with_room(room, decoder.shape.width as usize)).collect();
        Ok(Self { decoder: decoder.clone(), sampler: Sampler::new(sampling), seen, kept, read: 0, left })
    }

    /// Tokens between it and its next one.
    fn unread(&self) -> usize {
        self.seen.len() - self.read
    }

    /// Makes room in the context for what is not read yet.
    fn make_room(&mut self) {
        let context = self.decoder.shape.context as usize;
        if self.seen.len() > context {
            self.seen.drain(..self.seen.len() - context / 2);
            self.read = 0;
            self.kept.iter_mut().for_each(Kept::clear);
        }
    }
}

/// What a step brings a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawn {
    /// The next token.
    Token(u16),
    /// None yet: there is more to read before it.
    Reading,
    /// None, and never any more: the answer has its greatest length, or no token is allowed.
    End,
}

/// Room for steps, kept from one to the next.
#[derive(Default)]
pub struct DecodeBatch {
    stream: Vec<f32>,
    sum: Vec<f32>,
    normed: Vec<f32>,
    inverse: Vec<f32>,
    qkv: Vec<f32>,
    /// Of the streams at hand and one layer.
    spans: Vec<Span>,
    attended: Vec<f32>,
    delta: Vec<f32>,
    gate_up: Vec<f32>,
    gated: Vec<f32>,
    logits: Vec<f32>,
}

impl DecodeBatch {
    /// The next token of each stream, in their order, as far as it has read that much. The `team` helps.
    pub fn step(&mut self, streams: &mut [&mut Stream], team: &mut Team) -> Vec<Drawn> {
        let mut drawn = vec![Drawn::End; streams.len()];
        let mut waiting: Vec<usize> = (0..streams.len()).filter(|&at| streams[at].left > 0).collect();
        while let Some(&first) = waiting.first() {
            let decoder = streams[first].decoder.clone();
            let (group, others): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|&at| Arc::ptr_eq(&streams[at].decoder, &decoder));
            waiting = others;
            self.read(&decoder, streams, &group, team);
            let mut logits = self.logits.chunks_exact(decoder.embed.outputs());
            for at in group {
                let stream = &mut *streams[at];
                if stream.unread() > 0 {
                    drawn[at] = Drawn::Reading;
                } else if let Some(token) = logits.next().and_then(|logits| stream.sampler.draw(logits)) {
                    drawn[at] = Drawn::Token(token);
                    stream.left -= 1;
                    stream.seen.push(token);
                } else {
                    stream.left = 0;
                }
            }
        }
        drawn
    }

    /// How many tokens each of the group reads now: shares are equal, and what one does not need is the others'.
    fn shares(streams: &[&mut Stream], group: &[usize]) -> Vec<usize> {
        let mut shares = vec![0; group.len()];
        let mut order: Vec<usize> = (0..group.len()).collect();
        order.sort_by_key(|&n| streams[group[n]].unread());
        let (mut ahead, mut others) = (AHEAD, group.len());
        for n in order {
            let more = (streams[group[n]].unread() - 1).min(ahead / others);
            shares[n] = 1 + more;
            (ahead, others) = (ahead - more, others - 1);
        }
        shares
    }

    /// Takes the next that the group has not read through the network; leaves the logits after the last token of each
    /// that has read everything.
    fn read(&mut self, decoder: &Arc<Decoder>, streams: &mut [&mut Stream], group: &[usize], team: &mut Team) {
        let width = decoder.shape.width as usize;
        for &at in group {
            streams[at].make_room();
        }
        // Streams lie one after the other.
        let shares = Self::shares(streams, group);
        let rows = shares.iter().sum::<usize>();
        self.stream.clear();
        for (&at, share) in group.iter().zip(&shares) {
            let stream = &streams[at];
            for &token in stream.seen.iter().skip(stream.read).take(*share) {
                self.stream.extend(decoder.embed.row(usize::from(token)));
            }
        }
        let fit = |buffer: &mut Vec<f32>, width: usize| buffer.resize(rows * width, 0.0);
        for buffer in [&mut self.sum, &mut self.normed, &mut self.attended, &mut self.delta] {
            fit(buffer, width);
        }
        fit(&mut self.inverse, 1);
        fit(&mut self.qkv, 3 * width);
        fit(&mut self.gate_up, 2 * decoder.shape.ffn as usize);
        fit(&mut self.gated, decoder.shape.ffn as usize);

        if let Some(first) = decoder.layers.first() {
            wide::norm(&self.stream, &first.norm1, &mut self.normed, &mut self.inverse);
        }
        for (index, layer) in decoder.layers.iter().enumerate() {
            let next = decoder.layers.get(index + 1).map_or(&decoder.norm, |next| &next.norm1);
            team.multiply(&layer.qkv, &self.normed, &mut self.qkv);
            let spans = group.iter().zip(&shares).map(|(&at, rows)| Span {
                position: streams[at].read,
                rows: *rows,
                kept: std::mem::take(&mut streams[at].kept[index]),
            });
            self.spans.extend(spans);
            team.attend((decoder, index), &self.qkv, &mut self.spans, &mut self.attended);
            group.iter().zip(self.spans.drain(..)).for_each(|(&at, span)| streams[at].kept[index] = span.kept);
            team.multiply(&layer.out, &self.attended, &mut self.delta);
            let (normed, inverse) = (&mut self.normed, &mut self.inverse);
            wide::add_norm(&self.stream, &self.delta, &mut self.sum, &layer.norm2, normed, inverse);
            team.multiply(&layer.gate_up, &self.normed, &mut self.gate_up);
            wide::gate(&self.gate_up, decoder.shape.ffn as usize, &mut self.gated);
            team.multiply(&layer.down, &self.gated, &mut self.delta);
            let (normed, inverse) = (&mut self.normed, &mut self.inverse);
            wide::add_norm(&self.sum, &self.delta, &mut self.stream, next, normed, inverse);
        }
        // Only the last token of each stream is asked what follows it.
        self.sum.clear();
        let mut normed = &*self.normed;
        for (&at, share) in group.iter().zip(&shares) {
            let stream = &mut *streams[at];
            stream.read += share;
            let own = normed.split_off(..share * width).expect("there is one of each row");
            if stream.unread() == 0 {
                self.sum.extend_from_slice(&own[own.len() - width..]);
            }
        }
        self.logits.resize(self.sum.len() / width * decoder.embed.outputs(), 0.0);
        if !self.sum.is_empty() {
            team.multiply(&decoder.embed, &self.sum, &mut self.logits);
        }
    }
}

#[cfg(test)]
mod tests;
