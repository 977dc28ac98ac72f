//! The samples of a run, in a file of lines of JSON beside its ledger, so that a restart does not forget how it learnt.
//!
//! Only the screen reads it. What cannot be read is left out, and what cannot be written is missed: nothing that counts
//! rests on it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::screen::{SAMPLES, Sample};
use crate::store::write_whole;

/// Its name in the run's folder.
const NAME: &str = "samples.jsonl";
/// A file with more lines is cut to the newest.
const MOST: usize = 20 * SAMPLES;

/// One line.
#[derive(Serialize, Deserialize)]
struct Line {
    /// What all were asked; another one begins another story.
    prompt: String,
    #[serde(flatten)]
    sample: Sample,
}

/// Those that answer one prompt.
pub struct Samples {
    run: PathBuf,
    pub prompt: String,
    /// Lines that were added since the file was last looked at.
    added: usize,
}

impl Samples {
    /// Those of a run's folder.
    pub fn of(run: &Path, prompt: &str) -> Self {
        Self { run: run.to_owned(), prompt: prompt.trim().to_owned(), added: 0 }
    }

    /// The newest, oldest first. Keeps a long file short.
    pub fn read(&mut self) -> Vec<Sample> {
        self.added = 0;
        let (mut lines, count) = self.lines().unwrap_or_default();
        if count > MOST {
            let text: String =
                lines.iter().filter_map(|line| serde_json::to_string(line).ok()).map(|l| l + "\n").collect();
            if let Err(error) = write_whole(&self.run, NAME, |out| out.write_all(text.as_bytes())) {
                tracing::debug!(%error, "the samples' file cannot be cut");
            }
        }
        lines.drain(..lines.len().saturating_sub(SAMPLES));
        lines.into_iter().map(|line| line.sample).collect()
    }

    /// Those of this prompt, at most as many as are kept, and how many lines there are in all.
    fn lines(&self) -> io::Result<(Vec<Line>, usize)> {
        let (mut lines, mut count) = (Vec::new(), 0);
        for text in BufReader::new(File::open(self.run.join(NAME))?).split(b'\n') {
            count += 1;
            let line: Option<Line> = serde_json::from_slice(&text?).ok();
            lines.extend(line.filter(|line| line.prompt == self.prompt));
            if lines.len() > 2 * SAMPLES {
                lines.drain(..SAMPLES);
            }
        }
        Ok((lines, count))
    }

    /// Appends one; now and then looks at how long the file has become.
    pub fn add(&mut self, sample: &Sample) {
        let line = Line { prompt: self.prompt.clone(), sample: sample.clone() };
        let written = serde_json::to_string(&line).map_err(io::Error::from).and_then(|line| {
            let mut file = OpenOptions::new().create(true).append(true).open(self.run.join(NAME))?;
            // In one piece: a line that a crash cut is left out by the next reader, with the one behind it.
            file.write_all(format!("{line}\n").as_bytes())
        });
        if let Err(error) = written {
            tracing::debug!(%error, "a sample cannot be kept");
        }
        self.added += 1;
        if self.added > MOST {
            self.read();
        }
    }
}

#[cfg(test)]
mod tests {
    use hydra_core::ids::VersionNo;

    use super::*;

    fn sample(version: u64) -> Sample {
        Sample { version: VersionNo(version), loss: 2.5, text: format!("answer\n{version}"), at_ms: version }
    }

    #[test]
    fn a_restart_finds_those_of_its_prompt() {
        let folder = tempfile::tempdir().unwrap();
        let (mut ours, mut others) = (Samples::of(folder.path(), " once "), Samples::of(folder.path(), "twice"));
        assert_eq!(ours.read(), []);
        ours.add(&sample(1));
        others.add(&sample(2));
        OpenOptions::new().append(true).open(folder.path().join(NAME)).unwrap().write_all(b"{\xff\n").unwrap();
        ours.add(&sample(3));
        assert_eq!(ours.read(), [sample(1), sample(3)]);
        assert_eq!(others.read(), [sample(2)]);
    }

    #[test]
    fn a_long_file_is_cut_to_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let mut samples = Samples::of(folder.path(), "once");
        // Another program's, or an earlier start's.
        Samples::of(folder.path(), "once").add(&sample(0));
        for version in 0..MOST as u64 {
            samples.add(&sample(version));
        }
        assert_eq!(samples.lines().unwrap().1, MOST + 1);
        for version in [MOST as u64 - 1, MOST as u64] {
            samples.add(&sample(version));
        }
        for _ in 0..2 {
            let read = samples.read();
            assert_eq!((read.len(), read.last()), (SAMPLES, Some(&sample(MOST as u64))));
        }
        assert!(samples.lines().unwrap().1 <= 2 * SAMPLES);
    }
}
