//! What passes between a running worker and its screen: what no event says, and what people ask.

use hydra_core::agent::{Event, Why};
use hydra_core::credits::Credits;
use hydra_core::ids::VersionNo;
use hydra_core::limits::LABEL_BYTES;
use hydra_core::time::Time;

use super::{Command, Driver, Fact, ServerMsg, Sink, proto};

/// What a screen shows beyond the [`Event`]s.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// The line is being made.
    Connecting,
    /// The device has another name, and uses so many CPU cores.
    Device { device: String, threads: Option<usize> },
    /// Another model is to be trained: losses so far say nothing about it.
    Model,
    /// The first words of the shard that training begins with.
    Preview(String),
    /// The task in hand is trained no more, and no event says so: its model or version went.
    Stopped,
    /// The device fails again and again; the worker leaves once what is trained is delivered.
    Useless,
    /// A step of the task in hand; all of them come.
    Step { step: u32, loss: f32, tokens_per_s: f32 },
    /// It takes no task until then, to rest.
    Resting(Time),
    /// Whether the coordinator has no tasks generated for the moment.
    Paused(bool),
    /// Credits of the user.
    Balance(Credits),
    /// Held-out loss as the coordinator measured it, with its newest version.
    HeldOut { version: VersionNo, loss: f64 },
}

/// What people ask of a running worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Finish the task in hand, deliver it, then leave.
    Finish,
    /// Leave at once.
    Stop,
    /// Take no task after the one in hand.
    Pause,
    /// Take tasks again.
    Resume,
    /// Use so many CPU cores from the next task on; answered by [`News::Device`] when it begins.
    Threads(usize),
    /// Ask the coordinator how the run and the account stand; answered by [`News::HeldOut`],
    /// [`News::Paused`] and [`News::Balance`].
    AskStatus,
}

impl<S: Sink> Driver<S> {
    /// What an event means here.
    pub(super) fn heed(&mut self, event: &Event) {
        match event {
            // The other's balance is told, also if it is the same number.
            Event::OtherRun => self.balance = None,
            Event::Stopped { reason: reason @ (Why::Complete | Why::Tasks), .. } => {
                // All that was asked for is done.
                self.useless = None;
                if *reason == Why::Complete {
                    self.command(Command::Complete);
                }
            }
            _ => {}
        }
    }

    pub(super) fn tell_status(&mut self, message: &ServerMsg) {
        if let ServerMsg::Status(status) = message {
            self.sink.tell(News::Paused(status.paused));
        }
        if let ServerMsg::Status(proto::Status { version, val_loss: Some(loss), val_version, .. }) = *message {
            self.sink.tell(News::HeldOut { version: val_version.unwrap_or(version), loss });
        }
    }

    /// The screen is told of the device, and with the fact the coordinator.
    pub(super) fn tell_device(&mut self, mut device: String, threads: Option<usize>) -> Fact {
        self.sink.tell(News::Device { device: device.clone(), threads });
        // As in the hello: a longer one is refused.
        device.truncate(device.floor_char_boundary(LABEL_BYTES));
        Fact::Device { device }
    }

    pub(super) fn tell_balance(&mut self) {
        let balance = Some(self.agent.balance());
        if self.balance != balance {
            self.balance = balance;
            self.sink.tell(News::Balance(self.agent.balance()));
        }
    }

    pub(super) fn tell_rest(&mut self) {
        let rest = self.agent.rest_until();
        if self.rest != rest {
            self.rest = rest;
            if let Some(until) = rest {
                self.sink.tell(News::Resting(until));
            }
        }
    }
}
