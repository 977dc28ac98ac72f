//! What a screen wants to know and no event says.

use hydra_core::limits::LABEL_BYTES;

use super::{Driver, Fact, News, ServerMsg, Sink, proto};

impl<S: Sink> Driver<S> {
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
