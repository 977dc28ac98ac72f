//! Reads training text: plain, Markdown or JSON Lines, each also compressed with gzip or Zstandard.
//!
//! Invariants: the order of sources depends on the given paths and the files' names alone; no file is read twice; what
//! is given back is UTF-8 without NUL and not blank; at most [`MAX_TEXT`] bytes are read in all, also out of a small
//! compressed file.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::pretrained::is_card;
use crate::store::schema;

#[cfg(test)]
mod tests;

/// Bytes of text in all, after decompression: the prepared tokens are kept in memory.
pub const MAX_TEXT: u64 = 4 << 30;
/// What a run's versions said, in its folder.
const SAMPLES: &str = "samples.jsonl";
/// The endings that are looked for in folders; each may be followed by `.gz` or `.zst`.
pub const EXTENSIONS: [&str; 3] = ["txt", "md", "jsonl"];

/// The documents of one file (or of one part of the primer).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What people know it by: the path as given.
    pub name: String,
    /// The file itself, with links resolved; absent for text that is no file.
    pub origin: Option<PathBuf>,
    /// One for plain text, one a line for JSON Lines.
    pub documents: Vec<String>,
}

impl Source {
    /// Bytes of all documents.
    pub fn bytes(&self) -> u64 {
        self.documents.iter().map(|document| document.len() as u64).sum()
    }
}

/// Why text cannot be read; always something that the user can put right.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Nothing lies at the path.
    #[error("{path} does not exist; check the spelling, or give the full path")]
    NotFound {
        /// The path as given.
        path: PathBuf,
    },
    /// The system refuses to open or list it.
    #[error("{path} cannot be read: {source}; check who owns it and its permissions")]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A socket, a pipe or a device.
    #[error("{path} is neither a file nor a folder; write its content to a file first")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A file without a visible character.
    #[error("{path} is empty; give a file that has text in it")]
    Empty {
        /// The path.
        path: PathBuf,
    },
    /// A folder without anything to read.
    #[error(
        "{path} holds no text: no file in it that is not empty ends in .txt, .md or .jsonl (or one of these with .gz or \
         .zst); a file with another ending can be given by its own path"
    )]
    NoText {
        /// The folder.
        path: PathBuf,
    },
    /// Not text.
    #[error("{path} is not UTF-8 text: {seen} at byte {at}; {hint}")]
    Binary {
        /// The path.
        path: PathBuf,
        /// The offending byte.
        seen: String,
        /// Its offset from the start of the (decompressed) file.
        at: usize,
        /// What to do.
        hint: &'static str,
    },
    /// A compressed file that does not decompress.
    #[error("{path} is not a whole {format} file and nothing else: {source}; fetch or compress it again")]
    Broken {
        /// The path.
        path: PathBuf,
        /// gzip or Zstandard.
        format: &'static str,
        /// What the decoder said.
        source: io::Error,
    },
    /// A line of JSON Lines that is not what it should be.
    #[error("{path}, line {line}: {what}; each line must be like {{\"text\": \"…\"}}")]
    Line {
        /// The path.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// More text than a run can hold.
    #[error("{path} brings the text to more than {} GiB; give less text", MAX_TEXT >> 30)]
    TooLarge {
        /// The file with which the bound was passed.
        path: PathBuf,
    },
}

/// Reads files and folders (with everything in them, hidden files and what this program wrote left out), in the order
/// given, names sorted within a folder. A file that is met again is left out.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Source>, ReadError> {
    read_bounded(paths, MAX_TEXT)
}

fn read_bounded(paths: &[PathBuf], bound: u64) -> Result<Vec<Source>, ReadError> {
    let mut reader = Reader { left: bound, seen: BTreeSet::new(), sources: Vec::new() };
    for path in paths {
        let meta = fs::metadata(path).map_err(|e| failed(path, e))?;
        if meta.is_dir() {
            if !reader.folder(path)? {
                return Err(ReadError::NoText { path: path.clone() });
            }
        } else if !reader.file(path)? {
            return Err(ReadError::Empty { path: path.clone() });
        }
    }
    Ok(reader.sources)
}

/// What the paths before have left behind.
struct Reader {
    /// Bytes that may still be read.
    left: u64,
    /// Files and folders already visited, links resolved: folders that link to one of their parents end here.
    seen: BTreeSet<PathBuf>,
    sources: Vec<Source>,
}

impl Reader {
    /// Reads everything in a folder; false if there was nothing to read, neither now nor in an earlier visit.
    fn folder(&mut self, folder: &Path) -> Result<bool, ReadError> {
        if !self.seen.insert(folder.canonicalize().map_err(|e| failed(folder, e))?) {
            return Ok(true);
        }
        let entries =
            fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(|e| failed(folder, e))?;
        let mut names: Vec<_> = entries.into_iter().map(|entry| entry.file_name()).collect();
        names.sort();
        let mut found = false;
        let of_run = folder.join(schema::FILE).exists();
        for name in names {
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = folder.join(&name);
            // A link that leads nowhere is not worth stopping for: nobody named it.
            let Ok(meta) = fs::metadata(&path) else { continue };
            if meta.is_dir() {
                // Nobody named a run's folder as text: it holds what an earlier model said.
                if !path.join(schema::FILE).exists() {
                    found |= self.folder(&path)?;
                }
            } else if (of_run && name == SAMPLES) || is_card(&path) {
                // Written by this program itself.
            } else if meta.is_file() && EXTENSIONS.contains(&Form::of(&path).extension.as_str()) {
                found |= self.file(&path)?;
            }
        }
        Ok(found)
    }

    /// Reads one file; false if it has no text.
    fn file(&mut self, path: &Path) -> Result<bool, ReadError> {
        let meta = fs::metadata(path).map_err(|e| failed(path, e))?;
        if !meta.is_file() {
            return Err(ReadError::NotAFile { path: path.to_owned() });
        }
        let origin = path.canonicalize().map_err(|e| failed(path, e))?;
        if self.seen.contains(&origin) {
            return Ok(true);
        }
        let form = Form::of(path);
        let file = File::open(path).map_err(|e| failed(path, e))?;
        if meta.len() == 0 {
            return Ok(false);
        }
        let bytes = form.decompress(path, file, meta.len(), self.left)?;
        self.left -= bytes.len() as u64;
        let text = text_of(path, bytes)?;
        let documents = if form.extension == "jsonl" { lines(path, &text)? } else { vec![text] };
        if documents.iter().all(|document| document.trim().is_empty()) {
            return Ok(false);
        }
        self.seen.insert(origin.clone());
        self.sources.push(Source { name: path.display().to_string(), origin: Some(origin), documents });
        Ok(true)
    }
}

/// What a file's name says about its content.
struct Form {
    /// In lower case, without the compression's own.
    extension: String,
    compression: Option<&'static str>,
}

impl Form {
    fn of(path: &Path) -> Self {
        let lower = |path: &Path| path.extension().and_then(OsStr::to_str).unwrap_or_default().to_lowercase();
        let extension = lower(path);
        let compression = match extension.as_str() {
            "gz" => Some("gzip"),
            "zst" => Some("Zstandard"),
            _ => None,
        };
        let inner = path.file_stem().map_or(path, Path::new);
        Self { extension: if compression.is_some() { lower(inner) } else { extension }, compression }
    }

    /// The whole content, `size` bytes on disk, if it is at most `left` bytes long.
    fn decompress(&self, path: &Path, file: File, size: u64, left: u64) -> Result<Vec<u8>, ReadError> {
        let Some(format) = self.compression else {
            if size > left {
                return Err(ReadError::TooLarge { path: path.to_owned() });
            }
            return take(file, left).map_err(|e| failed(path, e))?.ok_or(ReadError::TooLarge { path: path.to_owned() });
        };
        let broken = |source| ReadError::Broken { path: path.to_owned(), format, source };
        let file = io::BufReader::new(file);
        let bytes = if format == "gzip" {
            take(flate2::bufread::MultiGzDecoder::new(file), left)
        } else {
            zstd::stream::read::Decoder::with_buffer(file).and_then(|mut decoder| {
                // What `zstd --long` made may need more than the usual window; the text is held whole anyway.
                decoder.window_log_max(31)?;
                take(decoder, left)
            })
        };
        bytes.map_err(broken)?.ok_or(ReadError::TooLarge { path: path.to_owned() })
    }
}

/// Everything that `reader` gives, or nothing if it is more than `left` bytes.
fn take(reader: impl Read, left: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    reader.take(left.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= left).then_some(bytes))
}

fn failed(path: &Path, source: io::Error) -> ReadError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ReadError::NotFound { path },
        _ => ReadError::Unreadable { path, source },
    }
}

/// `bytes` as text, without a byte order mark.
fn text_of(path: &Path, bytes: Vec<u8>) -> Result<String, ReadError> {
    let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let nul = bytes.iter().position(|byte| *byte == 0);
    let invalid = std::str::from_utf8(&bytes).err().map(|e| e.valid_up_to());
    if let Some(at) = [nul, invalid].into_iter().flatten().min() {
        let what = if Some(at) == nul { "a NUL" } else { "no valid character" };
        return Err(ReadError::Binary {
            path: path.to_owned(),
            seen: format!("0x{:02x}, {what},", bytes[at]),
            at,
            hint: if utf16 {
                "it looks like UTF-16: convert it with `iconv -f UTF-16 -t UTF-8`"
            } else {
                "give a text file, or convert it to UTF-8 with `iconv` first"
            },
        });
    }
    let mut text = String::from_utf8(bytes).expect("checked just above");
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

/// The part of a JSON line that counts; other fields are allowed.
#[derive(Deserialize)]
struct Line {
    text: String,
}

/// The texts of JSON Lines; blank lines and blank texts are left out.
fn lines(path: &Path, text: &str) -> Result<Vec<String>, ReadError> {
    let mut documents = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let fault = |what| ReadError::Line { path: path.to_owned(), line: number + 1, what };
        let Line { text } = serde_json::from_str(line).map_err(|e| {
            fault(match e.classify() {
                serde_json::error::Category::Data if e.to_string().starts_with("duplicate") => {
                    "more than one field \"text\"".to_owned()
                }
                serde_json::error::Category::Data => "no field \"text\" that is a string".to_owned(),
                _ => format!("not JSON (column {})", e.column()),
            })
        })?;
        if text.contains('\0') {
            return Err(fault("a NUL character in the text".to_owned()));
        }
        if !text.trim().is_empty() {
            documents.push(text);
        }
    }
    Ok(documents)
}
