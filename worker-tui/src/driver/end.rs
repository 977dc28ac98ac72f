//! How a worker ends, and what is said of it.

use hydra_core::agent::{Exit, Why};
use hydra_core::proto::{Bye, ClientMsg};
use hydra_shell::client::line::Line;
use hydra_shell::exit::{Exit as Code, Failure};
use hydra_shell::ui::text::count;
use tokio::task::JoinSet;
use tokio::time::{Duration, timeout};

use super::{Driver, FAREWELL, Sink};

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

/// Waits for shards to be on their way to the disk, and not for one that hangs: the next worker fetches them again.
pub(super) async fn settle(writes: JoinSet<()>) {
    if timeout(FAREWELL, writes.join_all()).await.is_err() {
        tracing::warn!("the disk does not take the last shards: they are not kept");
    }
}

/// What an end means for whoever started the program; `useless` is why its device is of no use.
pub(super) fn failure(exit: Exit, useless: Option<String>, line: &Line) -> Result<(), Failure> {
    let broken = |why| format!("the device fails again and again: {why}");
    match (exit, useless) {
        (Exit::Done, None) => Ok(()),
        (Exit::Done, Some(why)) => Err(Failure::new(Code::NoDevice, broken(why))),
        // That is why it leaves; a coordinator that answers would change nothing.
        (Exit::Undelivered(tasks), Some(why)) => {
            Err(Failure::new(Code::NoDevice, format!("{}; {}", broken(why), unanswered(tasks))))
        }
        (Exit::Undelivered(tasks), None) => Err(Failure::new(Code::Connect, unanswered(tasks))
            .hint("a worker that is not asked to leave waits for its coordinator, however long, and delivers then")),
        (Exit::Unreachable(reason), _) => Err(match line.failed() {
            Some(error) => error.clone().into(),
            None => Failure::new(Code::Connect, format!("no session with the coordinator: {reason}"))
                .hint("look at the coordinator's screen or log, see that it has the version of this program, or try again later"),
        }),
        (Exit::Refused(text), _) => Err(Failure::new(Code::Refused, format!("the coordinator refuses: {text}"))),
    }
}

fn unanswered(tasks: usize) -> String {
    let tasks = count(tasks as u64, "finished task", "finished tasks");
    format!("no answer from a coordinator for a minute: {tasks} without one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_device_is_told_whatever_became_of_the_updates() {
        let line = Line::new(std::future::pending);
        let useless = || Some("CUDA error: unspecified launch failure".to_owned());
        let failed = |exit, useless| failure(exit, useless, &line).unwrap_err();
        let both = failed(Exit::Undelivered(2), useless());
        assert_eq!(both.exit, Code::NoDevice);
        assert!(both.message.contains("launch failure") && both.message.contains("2 finished tasks"), "{both}");
        assert_eq!(failed(Exit::Done, useless()).exit, Code::NoDevice);
        assert_eq!(failed(Exit::Undelivered(1), None).exit, Code::Connect);
        assert_eq!(failed(Exit::Refused("no".to_owned()), useless()).exit, Code::Refused);
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_is_not_waited_for() {
        let mut writes = JoinSet::new();
        writes.spawn(std::future::pending());
        timeout(2 * FAREWELL, settle(writes)).await.expect("it ends by itself");
    }
}
