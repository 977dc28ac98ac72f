//! Is there a C++ compiler, and is a folder the libtorch that this workspace needs?

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

use super::wheels::VERSION;
use crate::child;
use crate::failure::Failure;

/// Fails unless the compiler that torch-sys will call can be started.
pub fn compiler() -> Result<(), Failure> {
    let chosen = std::env::var("CXX").ok().filter(|name| !name.trim().is_empty());
    // CXX may carry a launcher and flags: `ccache g++`.
    let program = chosen.as_deref().and_then(|text| text.split_whitespace().next()).unwrap_or("c++");
    if child::succeeds(program, &["--version"]) {
        return Ok(());
    }
    let other = ["g++", "clang++"].into_iter().find(|name| child::succeeds(name, &["--version"]));
    Err(Failure::NoCompiler(match (&chosen, other) {
        (Some(_), _) => {
            format!("the C++ compiler that CXX names, `{program}`, cannot be started: correct or unset CXX")
        }
        (None, Some(other)) => format!("there is no command `c++`: set CXX={other}"),
        (None, None) => "no C++ compiler: install one (Debian and Ubuntu: `sudo apt install g++`, Fedora: `sudo dnf \
                         install gcc-c++`, macOS: `xcode-select --install`)"
            .to_owned(),
    }))
}

/// Why `folder` is not a libtorch of the right version with headers; `None` if it is.
pub fn fault(folder: &Path, library_suffix: &str) -> Option<String> {
    for needed in
        [format!("lib/libtorch_cpu.{library_suffix}"), "include/torch/csrc/api/include/torch/torch.h".to_owned()]
    {
        if !folder.join(&needed).is_file() {
            return Some(format!("{needed} is missing in {}", folder.display()));
        }
    }
    // torch-sys reads the same variable.
    if std::env::var_os("LIBTORCH_BYPASS_VERSION_CHECK").is_some() {
        return None;
    }
    match version(folder) {
        Some(found) if found != VERSION => Some(format!("{} holds libtorch {found}, not {VERSION}", folder.display())),
        _ => None,
    }
}

/// The folder of the PyTorch that `LIBTORCH_USE_PYTORCH` asks for, found as torch-sys finds it.
pub fn python_torch() -> Result<PathBuf, Failure> {
    let python = if std::env::var_os("VIRTUAL_ENV").is_some() { "python" } else { "python3" };
    let output = Command::new(python)
        .args(["-c", "import os, torch; print(os.path.dirname(torch.__file__))"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{python} could not be started"))?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if output.status.success() && folder.is_absolute() {
        return Ok(folder);
    }
    Err(Failure::BadLibtorch(format!(
        "LIBTORCH_USE_PYTORCH is set, but {python} has no torch: `{python} -m pip install torch=={VERSION}`, or unset \
         the variable to let set-up bring libtorch"
    )))
}

/// The version in libtorch's own headers; `None` if they do not say.
fn version(folder: &Path) -> Option<String> {
    // Where it is has changed between versions.
    ["include/torch/headeronly/version.h", "include/torch/csrc/api/include/torch/version.h"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(folder.join(path)).ok())
        .find_map(|text| version_in(&text))
}

fn version_in(header: &str) -> Option<String> {
    let part = |name: &str| {
        header.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("#define") && words.next() == Some(name)).then(|| words.next()).flatten()
        })
    };
    let (major, minor) = (part("TORCH_VERSION_MAJOR")?, part("TORCH_VERSION_MINOR")?);
    Some(format!("{major}.{minor}.{}", part("TORCH_VERSION_PATCH")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn libtorch(folder: &Path, minor: u32) {
        for (path, text) in [
            ("lib/libtorch_cpu.so", String::new()),
            ("include/torch/csrc/api/include/torch/torch.h", String::new()),
            (
                "include/torch/headeronly/version.h",
                format!(
                    "#pragma once\n/// major\n#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR {minor}\n\
                     #define TORCH_VERSION_PATCH 0\n#define TORCH_VERSION \\\n  \"2\"\n"
                ),
            ),
        ] {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn a_right_folder_has_no_fault() {
        let folder = tempfile::tempdir().unwrap();
        libtorch(folder.path(), 11);
        assert_eq!(fault(folder.path(), "so"), None);
    }

    #[test]
    fn another_version_is_named() {
        let folder = tempfile::tempdir().unwrap();
        libtorch(folder.path(), 5);
        let fault = fault(folder.path(), "so").unwrap();
        assert!(fault.ends_with("holds libtorch 2.5.0, not 2.11.0"), "{fault}");
    }

    #[test]
    fn the_first_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(fault(folder.path(), "so").unwrap().starts_with("lib/libtorch_cpu.so is missing in "));
        libtorch(folder.path(), 11);
        std::fs::remove_file(folder.path().join("include/torch/csrc/api/include/torch/torch.h")).unwrap();
        assert!(fault(folder.path(), "so").unwrap().starts_with("include/torch/csrc"));
    }

    #[test]
    fn a_header_without_a_version_says_nothing() {
        assert_eq!(version_in("#define TORCH_VERSION_MAJOR 2\n"), None);
        assert_eq!(version_in(""), None);
    }
}
