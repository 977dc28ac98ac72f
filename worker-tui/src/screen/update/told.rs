//! What the work tells the screen, and what that changes.

use std::time::Duration;

use hydra_core::agent::Event;
use hydra_core::credits::Credits;
use hydra_core::ids::VersionNo;
use hydra_shell::ui::theme::Sign;

use super::super::model::{Answer, InHand, Link, Screen};
use super::{Cmd, NOTICE};
use crate::driver::News;
use crate::tell::OTHER_RUN;

impl Screen {
    pub(super) fn on_event(&mut self, event: Event) -> Vec<Cmd> {
        let now = self.now;
        match event {
            Event::OtherRun => {
                self.toasts.renew(now, NOTICE, Sign::Warn, OTHER_RUN.to_owned());
                // Beside another run's balance the counts would not make sense.
                (self.paid, self.unpaid, self.earned, self.counted) = (0, 0, Credits::ZERO, now);
                (self.last_paid, self.last_unpaid) = (None, None);
                // It is told by a welcome, which may not come.
                self.balance = None;
                // Nor would one line through the losses of two models.
                (self.steps, self.held_out) = (0, None);
                self.session.clear();
            }
            Event::Ready { user, device, .. } => {
                self.facts.user = Some(user.to_string());
                // It was named so at the start; the threads may have changed since.
                self.device.get_or_insert(device);
                self.link = Link::Up { since: now };
                self.met = true;
                // All that is not answered is sent again.
                self.submitted.clear();
                return self.ask();
            }
            Event::Task { task, version, steps, tokens } => {
                let preview = String::new();
                self.task.clear();
                self.hand = Some(InHand { task, version, steps, tokens, step: 0, tokens_per_s: 0.0, preview });
            }
            // Each step has come as news; the last word is told where the screen was.
            Event::Progress { .. } | Event::Stopped { .. } => {}
            Event::Submitted { task, bytes } => {
                self.submitted.push((task, bytes));
                self.hand.take_if(|hand| hand.task == task);
            }
            Event::Credited { task, amount, balance } => {
                self.paid += 1;
                self.earned = self.earned.checked_add(amount).unwrap_or(self.earned);
                self.balance = Some(balance);
                self.last_paid = Some(Answer { at: now, task, what: amount });
                self.session.mark(self.steps as f64);
                self.answered(task);
            }
            Event::Unpaid { task, reason, text } => {
                self.unpaid += 1;
                // Payments may come every second, and the credits show them; why there is none has little room there.
                if now >= self.replied {
                    self.toasts.renew(now, NOTICE, Sign::Warn, format!("no pay for task {task}: {text}"));
                }
                self.last_unpaid = Some(Answer { at: now, task, what: (reason, text) });
                self.answered(task);
                self.hand.take_if(|hand| hand.task == task);
            }
            Event::Disconnected { retry_ms, reason } => {
                self.losses += u64::from(matches!(self.link, Link::Up { .. }));
                self.link = Link::Waiting { until: now.after(Duration::from_millis(retry_ms)), reason };
            }
        }
        Vec::new()
    }

    pub(super) fn on_news(&mut self, news: News) -> Vec<Cmd> {
        match news {
            News::Connecting => {
                self.link = Link::Connecting;
                self.first_try.get_or_insert(self.now);
            }
            News::Device { device, threads } => {
                (self.device, self.threads) = (Some(device), threads);
                self.wanted.take_if(|wanted| Some(*wanted) == threads);
                if self.link == Link::Starting {
                    self.link = Link::Connecting;
                }
            }
            News::Model => {
                self.session.clear();
                self.task.clear();
                self.held_out = None;
            }
            News::Preview(words) => {
                if let Some(hand) = &mut self.hand {
                    hand.preview = words;
                }
            }
            News::Step { step, loss, tokens_per_s } => self.on_step(step, loss, tokens_per_s),
            News::Stopped => self.hand = None,
            // Its steps end; the last word is told where the screen was.
            News::Useless => {}
            News::Resting(until) => self.rest_until = Some(until),
            News::Paused(paused) => self.run_paused = paused,
            News::Balance(balance) => self.balance = Some(balance),
            News::HeldOut { version, loss } => self.on_held_out(version, loss),
        }
        Vec::new()
    }

    fn on_step(&mut self, step: u32, loss: f32, tokens_per_s: f32) {
        self.steps += 1;
        self.session.raw.push(self.steps as f64, f64::from(loss));
        self.task.raw.push(f64::from(step), f64::from(loss));
        self.speeds.push(f64::from(tokens_per_s));
        if let Some(hand) = &mut self.hand {
            (hand.step, hand.tokens_per_s) = (step, tokens_per_s);
        }
    }

    fn on_held_out(&mut self, version: VersionNo, loss: f64) {
        // The same version measured once is one point.
        if self.held_out.is_none_or(|(known, value)| known < version || value.to_bits() != loss.to_bits()) {
            self.held_out = Some((version, loss));
            self.session.second.push(self.steps as f64, loss);
        }
    }
}
