//! `corpus unpack FOLDER`: seeds and the kept corpus as folders of files, one a target. `corpus pack FOLDER`: back.
//! `corpus run TARGET FILE...`: inputs once, to look at a finding without the fuzzer. For `cargo xtask fuzz`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

use hydra_fuzz::{TARGETS, pack, seeds};

/// What the repository keeps of a target, shortest first: it is cloned by everybody.
const KEPT_BYTES: usize = 96 * 1024;
/// Likewise.
const KEPT_INPUTS: usize = 600;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match &words[..] {
        ["unpack", folder] => unpack(folder.as_ref()),
        ["pack", folder] => repack(folder.as_ref()),
        ["run", target, files @ ..] => run(target, files),
        _ => Err(io::Error::other("corpus unpack FOLDER | pack FOLDER | run TARGET FILE...")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn kept(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(format!("{target}.pack"))
}

fn unpack(folder: &Path) -> io::Result<()> {
    for (target, _) in TARGETS {
        let folder = folder.join(target);
        fs::create_dir_all(&folder)?;
        let packed = match fs::read(kept(target)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        for input in pack::unpack(&packed).into_iter().map(<[u8]>::to_vec).chain(seeds::of(target)) {
            fs::write(folder.join(blake3::hash(&input).to_hex().as_str()), input)?;
        }
    }
    Ok(())
}

fn repack(folder: &Path) -> io::Result<()> {
    for (target, _) in TARGETS {
        let Ok(entries) = fs::read_dir(folder.join(target)) else { continue };
        let seeds = seeds::of(target);
        let mut inputs = Vec::new();
        for entry in entries {
            inputs.push(fs::read(entry?.path())?);
        }
        // Seeds are at hand without being kept.
        inputs.retain(|input| !seeds.contains(input));
        inputs.sort_by_key(Vec::len);
        let mut bytes = 0;
        inputs.retain(|input| {
            bytes += input.len();
            bytes <= KEPT_BYTES
        });
        inputs.truncate(KEPT_INPUTS);
        fs::write(kept(target), pack::pack(inputs))?;
    }
    Ok(())
}

fn run(target: &str, files: &[&str]) -> io::Result<()> {
    let found = TARGETS.iter().find(|(name, _)| *name == target);
    let (_, run) = found.ok_or_else(|| io::Error::other(format!("no target {target}")))?;
    files.iter().try_for_each(|file| fs::read(file).map(|input| run(&input)))
}
