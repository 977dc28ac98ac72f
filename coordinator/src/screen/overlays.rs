//! What lies over a page: the help, words that are being written, questions; how they open, change and close.

use hydra_core::limits;
use hydra_shell::ui::composer::{Composer, Edit};
use hydra_shell::ui::help;
use hydra_shell::ui::theme::Sign;

use super::model::{Overlay, Screen, Tab};
use super::update::{Cmd, Msg, Request};
use super::workers;

/// What a kicked worker reads when nobody wrote a reason.
const NO_REASON: &str = "no reason given";

impl Screen {
    /// Opening, writing in, and closing what lies over the page.
    pub(super) fn on_overlay(&mut self, msg: Msg) -> Vec<Cmd> {
        match msg {
            Msg::Help => self.overlay = Overlay::Help(help::Scroll::default()),
            Msg::Filter => {
                let mut words = Composer::default();
                words.set(if self.tab == Tab::Workers { self.workers.filter() } else { self.log.filter.as_str() });
                self.overlay = Overlay::Filter(words);
            }
            Msg::Kick => match self.chosen().map(|row| &row.worker) {
                Some(worker) => {
                    let (user, who) = (worker.user.clone(), workers::in_full(worker));
                    self.overlay = Overlay::Kick(user, worker.worker, who, Composer::default());
                }
                None => self.toasts.push(self.now, Sign::Warn, "no worker is chosen"),
            },
            Msg::Edit(edit) => self.edit(edit),
            Msg::Quit if self.leaving => {
                return vec![Cmd::Request(Request::StopAtOnce)];
            }
            Msg::Quit => self.overlay = Overlay::Quit,
            Msg::Confirm => return self.confirm(),
            Msg::Close => self.close(),
            _ => {}
        }
        Vec::new()
    }

    fn edit(&mut self, edit: Edit) {
        // One line: what would break it is a space.
        let edit = match edit {
            Edit::Newline | Edit::Up | Edit::Down => return,
            Edit::Insert(text) => Edit::Insert(text.replace(['\n', '\r'], " ")),
            edit => edit,
        };
        match &mut self.overlay {
            Overlay::Filter(words) => {
                words.apply(edit);
                let words = words.text().trim();
                if self.tab == Tab::Workers {
                    self.workers.set_filter(words);
                    self.stale = true;
                } else {
                    words.clone_into(&mut self.log.filter);
                }
            }
            Overlay::Kick(.., words) => words.apply(edit),
            Overlay::None | Overlay::Help(_) | Overlay::Quit => {}
        }
        self.arrange();
    }

    fn confirm(&mut self) -> Vec<Cmd> {
        match std::mem::take(&mut self.overlay) {
            Overlay::Kick(user, worker, who, words) => {
                let reason = words.text().trim();
                let reason = if reason.is_empty() { NO_REASON } else { reason };
                let reason = reason[..reason.floor_char_boundary(limits::TEXT_BYTES / 2)].to_owned();
                self.toasts.push(self.now, Sign::Info, format!("{who} is kicked: {reason}"));
                vec![Cmd::Request(Request::Kick(user, worker, reason))]
            }
            Overlay::Quit => {
                self.leaving = true;
                vec![Cmd::Request(Request::Drain)]
            }
            Overlay::None | Overlay::Help(_) | Overlay::Filter(_) => Vec::new(),
        }
    }

    /// Esc: closes what is open, else takes back what hides rows.
    fn close(&mut self) {
        match std::mem::take(&mut self.overlay) {
            Overlay::Filter(_) if self.tab != Tab::Workers => self.log.filter.clear(),
            Overlay::None if self.tab != Tab::Workers && !self.log.filter.is_empty() => self.log.filter.clear(),
            Overlay::None if self.tab != Tab::Workers => self.log.follow(),
            Overlay::None if workers::hides_table(self) => self.detail.1 = false,
            Overlay::None | Overlay::Filter(_) => {
                self.workers.set_filter("");
                self.stale = true;
                self.arrange();
            }
            Overlay::Help(_) | Overlay::Kick(..) | Overlay::Quit => {}
        }
    }
}
