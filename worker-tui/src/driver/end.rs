//! How a worker ends, and what is said of it.

use hydra_core::agent::{Exit, Why};
use hydra_core::proto::{Bye, ClientMsg};
use hydra_shell::client::line::Line;
use hydra_shell::exit::{Exit as Code, Failure};
use hydra_shell::ui::text::count;
use tokio::time::Duration;

use super::{Driver, Sink};

/// For the last words in both directions of somebody who is in a hurry.
const HASTE: Duration = Duration::from_millis(500);

impl<S: Sink> Driver<S> {
    /// Ends at once; what is in hand is given up.
    pub(super) async fn stop(mut self) -> Failure {
        self.stop_training(None);
        self.sink.show(&self.agent.stopped(Why::AtOnce));
        self.line.send(&ClientMsg::Bye(Bye { text: "stopped at once".to_owned(), retry: false }));
        self.line.hang_up(HASTE).await;
        let text = match self.agent.lease() {
            Some(_) => "stopped at once; the task in hand was given up: it is not paid",
            None => "stopped at once",
        };
        Failure::new(Code::Interrupted, text)
    }
}

/// What an end means for whoever started the program; `useless` is why its device is of no use.
pub(super) fn failure(exit: Exit, useless: Option<String>, line: &Line) -> Result<(), Failure> {
    match exit {
        Exit::Done => match useless {
            Some(why) => Err(Failure::new(Code::NoDevice, format!("the device fails again and again: {why}"))),
            None => Ok(()),
        },
        Exit::Unreachable(reason) => Err(match line.failed() {
            Some(error) => error.clone().into(),
            None => Failure::new(Code::Connect, format!("no session with the coordinator: {reason}"))
                .hint("look at the coordinator's screen or log, see that it has the version of this program, or try again later"),
        }),
        Exit::Undelivered(tasks) => Err(Failure::new(
            Code::Connect,
            format!(
                "no answer from a coordinator for a minute: {} without one",
                count(tasks as u64, "finished task", "finished tasks")
            ),
        )
        .hint("a worker that is not asked to leave waits for its coordinator, however long, and delivers then")),
        Exit::Refused(text) => Err(Failure::new(Code::Refused, format!("the coordinator refuses: {text}"))),
    }
}
