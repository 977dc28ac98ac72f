//! What a written line means: a question, one of the words, or a slash command, which the screen's Tab completes.

/// A slash command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    /// Its name, with what it takes: `/temp X`.
    pub usage: &'static str,
    /// What it does, in a few words.
    pub help: &'static str,
}

impl Command {
    const fn new(usage: &'static str, help: &'static str) -> Self {
        Self { usage, help }
    }

    /// Its name with the slash.
    pub fn name(&self) -> &'static str {
        self.usage.split(' ').next().unwrap_or(self.usage)
    }

    /// Whether something may follow the name.
    fn takes(&self) -> bool {
        self.usage.contains(' ')
    }
}

/// All of them, as help and completion list them.
pub const COMMANDS: [Command; 11] = [
    Command::new("/balance", "what you have (or: b)"),
    Command::new("/temp X", "0 greedy; off: default"),
    Command::new("/topk N", "the N likeliest only"),
    Command::new("/topp X", "likeliest up to X only"),
    Command::new("/max N", "at most N new tokens"),
    Command::new("/seed N", "repeats an answer"),
    Command::new("/status", "how the training goes"),
    Command::new("/save FILE", "save the conversation"),
    Command::new("/clear", "empty the screen"),
    Command::new("/help", "keys and commands"),
    Command::new("/quit", "leave (or: exit, q)"),
];

/// What a line means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Nothing but blanks.
    Nothing,
    /// For the model.
    Question(String),
    /// `/balance`, `balance`, `b`.
    Balance,
    /// `/status`.
    Status,
    /// `/help`.
    Help,
    /// `/clear`; the screen's alone.
    Clear,
    /// `/quit`, `quit`, `exit`, `q`.
    Quit,
    /// `/save`, with the file's name, perhaps empty; the screen's alone.
    Save(String),
    /// Any other slash command: its name without the slash, and what follows, in small letters.
    Other(String, String),
    /// A command that takes nothing, and something behind it; in words.
    Wrong(String),
}

/// Reads a line.
pub fn read(line: &str) -> Said {
    let line = line.trim();
    let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let first = first.to_ascii_lowercase();
    let alone = match first.as_str() {
        "" => return Said::Nothing,
        "/save" => return Said::Save(rest.to_owned()),
        "quit" | "exit" | "q" | "/quit" | "/exit" | "/q" => Said::Quit,
        "balance" | "b" | "/balance" | "/b" => Said::Balance,
        "/status" => Said::Status,
        "/help" | "/h" | "/?" => Said::Help,
        "/clear" => Said::Clear,
        command => match command.strip_prefix('/') {
            Some(name) => return Said::Other(name.to_owned(), rest.to_ascii_lowercase()),
            None => return Said::Question(line.to_owned()),
        },
    };
    match rest {
        "" => alone,
        _ if first.starts_with('/') => Said::Wrong(format!("{first} takes nothing")),
        _ => Said::Question(line.to_owned()),
    }
}

/// The commands whose names begin as `line` does; none once the name is complete and something follows.
pub fn matching(line: &str) -> Vec<Command> {
    if !line.starts_with('/') || line.contains(char::is_whitespace) {
        return Vec::new();
    }
    let line = line.to_ascii_lowercase();
    COMMANDS.into_iter().filter(|command| command.name().starts_with(&line)).collect()
}

/// `line` as Tab completes it: as far as all matching commands agree, else the first of them.
pub fn complete(line: &str) -> Option<String> {
    let matching = matching(line);
    let first = matching.first()?;
    let agreed = matching.iter().fold(first.name(), |agreed, command| {
        let same = agreed.bytes().zip(command.name().bytes()).take_while(|(a, b)| a == b).count();
        &agreed[..same]
    });
    if matching.len() > 1 && agreed.len() > line.len() {
        return Some(agreed.to_owned());
    }
    Some(if first.takes() { format!("{} ", first.name()) } else { first.name().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_commands_and_questions() {
        assert_eq!([" \n", "B", "Exit", "/HELP "].map(read), [Said::Nothing, Said::Balance, Said::Quit, Said::Help]);
        assert_eq!(read("/save My Chat.txt "), Said::Save("My Chat.txt".into()));
        assert_eq!(read("/Temp  0.5"), Said::Other("temp".into(), "0.5".into()));
        assert_eq!(read("/TEMP Off"), Said::Other("temp".into(), "off".into()));
        for wrong in ["/help me", "/quit now", "/balance of power", "/Clear all", "/status?  x"] {
            let name = wrong.split(' ').next().unwrap().to_ascii_lowercase();
            let want = if name == "/status?" {
                Said::Other("status?".into(), "x".into())
            } else {
                Said::Wrong(format!("{name} takes nothing"))
            };
            assert_eq!(read(wrong), want);
        }
        for question in ["quit smoking?", "b c", "balance of power", "What\nis /this"] {
            assert_eq!(read(question), Said::Question(question.into()));
        }
    }

    #[test]
    fn tab_completes() {
        let all = ["/b", "/top", "/t", "/s", "/sav", "/x", "/temp 1", "balance", "/clear", "/TO"].map(complete);
        let want = ["/balance", "/topk ", "/temp ", "/seed ", "/save ", "", "", "", "/clear", "/top"];
        assert_eq!(all.map(Option::unwrap_or_default), want);
        assert_eq!((matching("/").len(), matching("/top").len(), matching("").len()), (COMMANDS.len(), 2, 0));
    }
}
