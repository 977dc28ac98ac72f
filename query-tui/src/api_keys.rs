//! API keys: what somebody wants with them, and how it is done in a session.
//!
//! A key is drawn here and shown once; the coordinator is told its digest alone, signed with the user's own key.

use std::fmt;
use std::str::FromStr;

use hydra_core::chat::{Fact, Known};
use hydra_core::ids::Digest;
use hydra_core::proto::KeyAct;
use hydra_shell::clock::wall_ms;
use hydra_shell::exit::{Exit, Failure};
use hydra_shell::keys;
use hydra_shell::ui::text::count;
use serde_json::json;

use crate::print::Printer;

/// What the user wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// A new key.
    New,
    /// To see which there are.
    List,
    /// One to be worth nothing any more, by the beginning of its name; or all.
    Revoke(Option<String>),
}

impl FromStr for Wish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "new" => Ok(Self::New),
            None if text == "list" => Ok(Self::List),
            None if text == "revoke" => Ok(Self::Revoke(None)),
            Some(("revoke", id)) if !id.is_empty() && id.bytes().all(|c| c.is_ascii_hexdigit()) => {
                Ok(Self::Revoke(Some(id.to_ascii_lowercase())))
            }
            _ => Err("it must be new, list, revoke, or revoke:ID with the ID of a key, as list shows it".to_owned()),
        }
    }
}

/// A wish on its way.
#[derive(Debug, Clone)]
pub struct Errand {
    wish: Wish,
    /// The key that is made.
    secret: Option<Secret>,
    /// What is to be said next, in a session that stands: it is signed for that session.
    pub next: Option<Fact>,
}

/// The text of a key, which no log shall ever show.
#[derive(Clone)]
struct Secret(String);

impl Secret {
    fn draw() -> Result<Self, Failure> {
        Ok(Self(format!("hydra-{}", Digest(keys::random()?))))
    }

    fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Errand {
    /// Draws the key, if one is to be made.
    pub fn new(wish: Wish) -> Result<Self, Failure> {
        let (mut secret, mut key) = (None, None);
        let act = match wish {
            Wish::New => {
                let drawn = Secret::draw()?;
                key = Some(drawn.digest());
                secret = Some(drawn);
                KeyAct::Add
            }
            Wish::Revoke(None) => KeyAct::Revoke,
            Wish::List | Wish::Revoke(Some(_)) => KeyAct::List,
        };
        Ok(Self { wish, secret, next: Some(Fact::ApiKey { act, key }) })
    }

    /// Takes the coordinator's answer; whether all is done.
    pub fn answered(&mut self, known: &[Known], printer: &mut Printer) -> Result<bool, Failure> {
        if let Some(secret) = self.secret.take() {
            let id = Known::id_of(&secret.digest());
            let event = json!({ "event": "api_key", "id": id, "key": secret.0 });
            printer.result(&event, std::slice::from_ref(&secret.0));
            printer.say(&format!(
                "keep it like a password: whoever has it spends your credits, and it is not shown again; \
                 --api-key revoke:{id} makes it worthless"
            ));
            return Ok(true);
        }
        let Wish::Revoke(Some(id)) = &self.wish else {
            list(known, printer);
            return Ok(true);
        };
        let mine: Vec<_> = known.iter().filter(|key| key.id.starts_with(id.as_str())).collect();
        let [key] = mine[..] else {
            let count = if mine.is_empty() { "no" } else { "more than one" };
            let text = format!("you have {count} API key whose ID begins with {id}");
            return Err(Failure::new(Exit::Refused, text).hint("see them with --api-key list"));
        };
        self.next = Some(Fact::ApiKey { act: KeyAct::Revoke, key: Some(key.digest) });
        self.wish = Wish::List;
        Ok(false)
    }
}

fn list(known: &[Known], printer: &mut Printer) {
    let now = wall_ms();
    let line = |key: &Known| format!("{}  made {}", key.id, ago(now.saturating_sub(key.made_ms)));
    let lines: Vec<_> = known.iter().map(line).collect();
    printer.result(&json!({ "event": "api_keys", "keys": known }), &lines);
    if known.is_empty() {
        printer.say("there is no API key; --api-key new makes one");
    }
}

fn ago(ms: u64) -> String {
    let minutes = ms / 60_000;
    match minutes {
        0 => "just now".to_owned(),
        1..120 => format!("{} ago", count(minutes, "minute", "minutes")),
        120..2880 => format!("{} hours ago", minutes / 60),
        _ => format!("{} days ago", minutes / 1440),
    }
}
