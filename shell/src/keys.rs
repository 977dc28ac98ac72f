//! Identity files: the key that owns a user's name, kept in the user's configuration folder.
//!
//! A key is made on first use and never overwritten: whoever loses it loses the name and its credits. Files are
//! complete from the moment they have their name, so that two programs which start at once end up with one key.
//! Secrets are never printed. A key file that others may read is refused, as ssh does.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use hydra_core::ids::{PublicKey, UserName};

use crate::exit::{Exit, Failure};
use crate::terminal::{Keep, complain, sanitize};

/// The variable that moves the configuration folder.
pub const CONFIG_DIR: &str = "HYDRA_CONFIG_DIR";

/// The file that remembers which name to use when none is given.
const DEFAULT_USER: &str = "default-user";

/// The file with a name that was made up, to be used until a coordinator has taken one.
const MADE_UP_USER: &str = "made-up-user";

const KEY_LABEL: &str = "hydra-ed25519";

/// Longer than any file of this module; more is not read.
const LONGEST_FILE: u64 = 1024;

/// What becomes of a file that cannot be used, and what the user can do: who chose its place knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remedy {
    /// The exit code where the file cannot be read or written.
    pub exit: Exit,
    /// How another place is named, such as `choose another folder with --run DIR`.
    pub elsewhere: &'static str,
}

impl Remedy {
    /// For the files of the configuration folder.
    const FOLDER: Self = Self { exit: Exit::Config, elsewhere: "choose another folder with HYDRA_CONFIG_DIR=FOLDER" };
    /// For a key file of the user's choice.
    const FILE: Self = Self { exit: Exit::Config, elsewhere: "name another file with --key FILE" };
}

/// Who a program acts for.
#[derive(Clone)]
pub struct Identity {
    /// The name to earn or spend under.
    pub user: UserName,
    /// The key that owns the name, or will.
    pub key: SigningKey,
    /// Where the key lies, for messages.
    pub path: PathBuf,
    /// For the first session.
    pub remember: Remember,
}

/// Has the name used from then on when none is given, unless there is one already. Not before a coordinator has taken
/// it: one that refuses a name would be asked with it again and again.
#[derive(Debug, Clone, Default)]
pub struct Remember {
    name: String,
    /// Nowhere, where the caller has named a key of its own.
    path: Option<PathBuf>,
}

impl Remember {
    /// Writes it down. Where nothing can be written the name has to be given each time.
    pub fn keep(&self) {
        if let Some(path) = &self.path {
            let _ = read_or_create(path, Privacy::Anyone, Remedy::FOLDER, || Ok(format!("{}\n", self.name)));
        }
    }
}

impl Identity {
    /// Tells of a new key: whoever has named a wrong file, or sits at a wiped machine, must not take it for the old one.
    fn told_if(self, new: bool) -> Self {
        if new {
            let path = self.path.display().to_string();
            let path = sanitize(&path, Keep::Nothing);
            complain(&format!(
                "a new key for {}, which owns the name from its first use on, unless another does: {path}\n",
                self.user
            ));
        }
        self
    }

    /// The public half of the key.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.key.verifying_key().to_bytes())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("user", &self.user).field("public", &self.public()).finish_non_exhaustive()
    }
}

/// The user's configuration folder.
#[derive(Debug, Clone)]
pub struct ConfigDir(PathBuf);

impl ConfigDir {
    /// `HYDRA_CONFIG_DIR`, or the system's place for configuration.
    pub fn find() -> Result<Self, Failure> {
        if let Some(path) = std::env::var_os(CONFIG_DIR).filter(|path| !path.is_empty()) {
            return Ok(Self(path.into()));
        }
        match directories::ProjectDirs::from("", "", "hydra") {
            Some(dirs) => Ok(Self(dirs.config_dir().to_owned())),
            None => Err(Failure::new(Exit::Config, "this account has no home folder to keep a key in")
                .hint(format!("name a folder with {CONFIG_DIR}=FOLDER, or a key file with --key FILE"))),
        }
    }

    /// A folder of the caller's choice.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where the key of `user` lies.
    pub fn key_path(&self, user: &UserName) -> PathBuf {
        self.0.join("keys").join(format!("{user}.key"))
    }

    /// The name to use when none is given: the remembered one, or until there is one a made-up `user-xxxxxx`.
    pub fn default_user(&self) -> Result<UserName, Failure> {
        if let Some(user) = self.remembered_user()? {
            return Ok(user);
        }
        let path = self.0.join(MADE_UP_USER);
        let text = read_or_create(&path, Privacy::Anyone, Remedy::FOLDER, || {
            let mut random = [0; 3];
            getrandom::fill(&mut random)?;
            Ok(format!("user-{}\n", hex(&random)))
        })?;
        name_in(&path, &text)
    }

    fn remembered_user(&self) -> Result<Option<UserName>, Failure> {
        let path = self.0.join(DEFAULT_USER);
        read(&path, Privacy::Anyone, Remedy::FOLDER)?.map(|text| name_in(&path, &text)).transpose()
    }

    /// The identity for a program: `user` or the default one, with the key in `key_file` or in this folder; what does
    /// not exist is made.
    pub fn identity(&self, user: Option<UserName>, key_file: Option<&Path>) -> Result<Identity, Failure> {
        let Some(path) = key_file else {
            let user = user.map_or_else(|| self.default_user(), Ok)?;
            let path = self.key_path(&user);
            let (key, new) = key_at(&path, Remedy::FOLDER)?;
            let remember = Remember { name: user.to_string(), path: Some(self.0.join(DEFAULT_USER)) };
            return Ok(Identity { user, key, path, remember }.told_if(new));
        };
        let known = if user.is_some() { user } else { self.remembered_user()? };
        let (key, new) = key_at(path, Remedy::FILE)?;
        let user = known.unwrap_or_else(|| {
            // Always the same with this key, where no name is remembered, so that its credits are found again.
            let name = format!("user-{}", hex(&key.verifying_key().to_bytes()[..3]));
            complain(&format!("no name is given: it is {name} with this key\n"));
            name.parse().expect("letters, a dash and digits are a name")
        });
        Ok(Identity { user, key, path: path.to_owned(), remember: Remember::default() }.told_if(new))
    }
}

fn name_in(path: &Path, text: &str) -> Result<UserName, Failure> {
    text.trim().parse().map_err(|_| {
        Failure::new(Exit::Config, format!("{} holds no user name", path.display()))
            .hint("write your user name into it, or remove it to get a new one")
    })
}

/// [`load_or_create`], and whether it is new.
fn key_at(path: &Path, remedy: Remedy) -> Result<(SigningKey, bool), Failure> {
    let new = !path.exists();
    Ok((load_or_create(path, remedy)?, new))
}

/// The key in the file at `path`; a new one is made and written if there is no file. The coordinator keeps its own
/// key this way too.
pub fn load_or_create(path: &Path, remedy: Remedy) -> Result<SigningKey, Failure> {
    let text = read_or_create(path, Privacy::Owner, remedy, || {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        Ok(format!("{KEY_LABEL} {}\n", hex(&secret)))
    })?;
    parse_key(&text).ok_or_else(|| {
        Failure::new(Exit::Config, format!("{} is not a key file of this program", path.display()))
            .hint(format!("it must hold one line: {KEY_LABEL} and 64 hexadecimal digits; restore it from a backup"))
    })
}

/// 32 random bytes from the system: nonces and the like.
pub fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => Err(Failure::new(Exit::Bug, format!("the system gives no random numbers: {error}"))),
    }
}

fn parse_key(text: &str) -> Option<SigningKey> {
    let digits = text.trim().strip_prefix(KEY_LABEL)?.strip_prefix(' ')?.as_bytes();
    let mut secret = [0; 32];
    if digits.len() != 2 * secret.len() {
        return None;
    }
    for (byte, pair) in secret.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(SigningKey::from_bytes(&secret))
}

fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).expect("four bits are one digit");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Privacy {
    /// Only the owner may read it.
    Owner,
    /// No secret.
    Anyone,
}

/// The file's text; if there is no file, makes it with `content`, all at once. When another process makes it in the
/// same moment, its text counts.
fn read_or_create(
    path: &Path,
    privacy: Privacy,
    remedy: Remedy,
    content: impl FnOnce() -> io::Result<String>,
) -> Result<String, Failure> {
    match read(path, privacy, remedy)? {
        Some(text) => return Ok(text),
        None => create(path, content).map_err(|error| {
            Failure::new(remedy.exit, format!("cannot write {}: {error}", path.display()))
                .hint(format!("make the folder writable, or {}", remedy.elsewhere))
        })?,
    }
    read(path, privacy, remedy)?.ok_or_else(|| {
        Failure::new(Exit::Config, format!("{} was removed while it was being made", path.display()))
            .hint("start again")
    })
}

/// The file's text, nothing if there is no file.
fn read(path: &Path, privacy: Privacy, remedy: Remedy) -> Result<Option<String>, Failure> {
    let cannot = |error: &io::Error| Failure::new(remedy.exit, format!("cannot read {}: {error}", path.display()));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot(&error)),
    };
    if privacy == Privacy::Owner {
        // Asked of the open file, so that it cannot be exchanged between the check and the reading.
        let metadata = file.metadata().map_err(|error| cannot(&error))?;
        if metadata.is_dir() {
            return Err(
                Failure::new(remedy.exit, format!("{} is a folder", path.display())).hint("name a key file in it")
            );
        }
        if is_open_to_others(&metadata) {
            let (path, elsewhere) = (path.display(), remedy.elsewhere);
            // FAT, or a Windows disk under WSL: every file there is open to all, whatever chmod is told.
            return Err(Failure::new(Exit::Config, format!("others may read the key file {path}")).hint(format!(
                "if it is yours, close it with: chmod 600 {path}; else name the right one. On a disk that knows no \
                 permissions (FAT, /mnt/c in WSL) that has no effect: {elsewhere}, on another disk"
            )));
        }
    }
    let mut text = String::new();
    match file.take(LONGEST_FILE).read_to_string(&mut text) {
        Ok(_) => Ok(Some(text)),
        // Not text at all: the caller says what it should be.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(String::new())),
        Err(error) => Err(cannot(&error)),
    }
}

/// Makes the file unless it exists. It is written under a name of its own and then linked, which fails if the name
/// is taken: nobody ever sees half a file, and the first of two makers wins.
fn create(path: &Path, content: impl FnOnce() -> io::Result<String>) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    private_dir(folder)?;
    let mut random = [0; 8];
    getrandom::fill(&mut random)?;
    let draft = folder.join(format!(".draft-{}", hex(&random)));
    let content = content()?;
    let made = write_private(&draft, &content).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // A file system without links (FAT): the name is still claimed by one only, though not in one step.
        Err(_) => match write_private(path, &content) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        },
        Ok(()) => Ok(()),
    });
    let _ = fs::remove_file(&draft);
    made?;
    sync_dir(folder)
}

fn write_private(path: &Path, content: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

fn private_dir(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(unix)]
fn is_open_to_others(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0
}

/// Other systems protect the user's folders by lists that the mode bits do not show.
#[cfg(not(unix))]
fn is_open_to_others(_metadata: &fs::Metadata) -> bool {
    false
}

/// Makes the new name survive a power failure; the key behind it owns credits.
fn sync_dir(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests;
