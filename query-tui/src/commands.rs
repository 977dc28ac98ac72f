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
    Command::new("/topk N", "N likeliest; or off"),
    Command::new("/topp X", "likeliest to X; or off"),
    Command::new("/max N", "most new tokens; or off"),
    Command::new("/seed N", "repeats answers; or off"),
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
    /// For the model. A second slash before it makes a question of what begins with one.
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
    if line.starts_with("//") {
        return Said::Question(line[1..].to_owned());
    }
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

/// What is told about a name that no command has.
pub fn unknown(name: &str) -> String {
    let near = matching(&format!("/{name}"));
    match near.first().filter(|_| !name.is_empty()) {
        Some(command) => format!("there is no command /{name}: did you mean {}?", command.name()),
        None => format!("there is no command /{name}: /help lists them; // asks a question that begins with /"),
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

/// A command that Tab completed; Tab again takes the next that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    /// The line as it is now.
    pub line: String,
    /// What had been typed, and the place of the next match.
    typed: String,
    next: usize,
}

/// `line` as Tab completes it: as far as all matching commands agree, else the first of them, or the one after `last`.
pub fn complete(line: &str, last: Option<&Completed>) -> Option<Completed> {
    let last = last.filter(|last| last.line == line);
    let (typed, place) = last.map_or((line, 0), |last| (last.typed.as_str(), last.next));
    let matching = matching(typed);
    let chosen = matching.get(place % matching.len().max(1))?;
    let agreed = matching.iter().fold(chosen.name(), |agreed, command| {
        let same = agreed.bytes().zip(command.name().bytes()).take_while(|(a, b)| a == b).count();
        &agreed[..same]
    });
    let done = |line: String, typed: &str, next| Some(Completed { line, typed: typed.to_owned(), next });
    if matching.len() > 1 && agreed.len() > typed.len() {
        return done(agreed.to_owned(), agreed, 0);
    }
    let line = if chosen.takes() { format!("{} ", chosen.name()) } else { chosen.name().to_owned() };
    done(line, typed, place + 1)
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
        assert_eq!(read(" //etc/hosts ?"), Said::Question("/etc/hosts ?".into()));
        assert_eq!(unknown("te"), "there is no command /te: did you mean /temp?");
        assert!(unknown("").contains("/help lists them"));
        assert!(unknown("etc/hosts").ends_with("/help lists them; // asks a question that begins with /"));
        for question in ["quit smoking?", "b c", "balance of power", "What\nis /this"] {
            assert_eq!(read(question), Said::Question(question.into()));
        }
    }

    #[test]
    fn tab_completes() {
        let line = |line| complete(line, None).map_or(String::new(), |completed| completed.line);
        let all = ["/b", "/top", "/t", "/s", "/sav", "/x", "/temp 1", "balance", "/clear", "/TO"].map(line);
        let want = ["/balance", "/topk ", "/temp ", "/seed ", "/save ", "", "", "", "/clear", "/top"];
        assert_eq!(all, want);
        assert_eq!((matching("/").len(), matching("/top").len(), matching("").len()), (COMMANDS.len(), 2, 0));
    }

    /// Every line that so many tabs make.
    fn tabs(typed: &str, times: usize) -> Vec<String> {
        let mut last = None;
        (0..times)
            .map(|_| {
                let line = last.as_ref().map_or(typed.to_owned(), |last: &Completed| last.line.clone());
                last = complete(&line, last.as_ref());
                last.as_ref().map_or(String::new(), |last| last.line.clone())
            })
            .collect()
    }

    #[test]
    fn tab_again_takes_the_next() {
        assert_eq!(tabs("/s", 4), ["/seed ", "/status", "/save ", "/seed "]);
        assert_eq!(tabs("/t", 4), ["/temp ", "/topk ", "/topp ", "/temp "]);
        assert_eq!(tabs("/TO", 4), ["/top", "/topk ", "/topp ", "/topk "]);
        assert_eq!(tabs("/b", 2), ["/balance", "/balance"]);
        // What was written since counts, not what was completed before.
        let seed = complete("/s", None).unwrap();
        assert_eq!(complete("/seed 1", Some(&seed)), None);
        assert_eq!(complete("/m", Some(&seed)).unwrap().line, "/max ");
    }
}
