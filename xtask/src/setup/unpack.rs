//! From wheels to a libtorch folder.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};

use super::wheels::{Plan, Platform, VERSION};

/// The wheel's `libtorch.so` wants CUDA; who links against this one gets the CPU library.
const LINKER_SCRIPT: &str = "INPUT(-ltorch_cpu)\n";

/// Unpacks the wanted files of one wheel below `tree`. `written` hears the bytes as they are written.
pub fn unpack(wheel: &Path, plan: &Plan, tree: &Path, written: &mut dyn FnMut(u64)) -> Result<()> {
    let file = File::open(wheel).with_context(|| format!("{}", wheel.display()))?;
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).with_context(|| format!("{}", wheel.display()))?;
    let mut buffer = vec![0; 1 << 18];
    for index in 0..archive.len() {
        let mut member = archive.by_index(index)?;
        // A name that leads out of the folder has no enclosed name.
        let Some(inside) = member.enclosed_name() else { continue };
        let Some(place) = plan.place(&inside).filter(|_| member.is_file()) else { continue };
        let path = tree.join(place);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
        }
        let mut output = File::create(&path).with_context(|| format!("{}", path.display()))?;
        copy(&mut member, &mut output, &mut buffer, written).with_context(|| format!("{}", path.display()))?;
    }
    Ok(())
}

/// Adds what no wheel has: the version for torch-sys, and on Linux a `libtorch.so` for the linker.
pub fn complete(plan: &Plan, tree: &Path) -> Result<()> {
    std::fs::write(tree.join("build-version"), VERSION)?;
    if plan.platform != Platform::MacArm {
        std::fs::write(tree.join("lib/libtorch.so"), LINKER_SCRIPT)?;
    }
    Ok(())
}

fn copy(from: &mut impl Read, to: &mut impl Write, buffer: &mut [u8], written: &mut dyn FnMut(u64)) -> io::Result<()> {
    loop {
        let read = from.read(buffer)?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read])?;
        written(read as u64);
    }
}

#[cfg(test)]
mod tests {
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    #[test]
    fn only_wanted_files_come_out_and_none_outside() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("torch.whl");
        let mut writer = ZipWriter::new(File::create(&wheel).unwrap());
        for (name, text) in [
            ("torch/include/ATen/ATen.h", "header"),
            ("torch/lib/libc10.so", "library"),
            ("torch/lib/libtorch.so", "shell"),
            ("torch/__init__.py", "python"),
            ("torch/include/../../../escaped.h", "escaped"),
        ] {
            writer.start_file(name, SimpleFileOptions::default()).unwrap();
            writer.write_all(text.as_bytes()).unwrap();
        }
        writer.finish().unwrap();
        let plan = Plan::new(Platform::LinuxX86, false).unwrap();
        let tree = folder.path().join("tree");
        let mut bytes = 0;
        unpack(&wheel, &plan, &tree, &mut |more| bytes += more).unwrap();
        complete(&plan, &tree).unwrap();

        assert_eq!(std::fs::read_to_string(tree.join("include/ATen/ATen.h")).unwrap(), "header");
        assert_eq!(std::fs::read_to_string(tree.join("lib/libtorch.so")).unwrap(), "INPUT(-ltorch_cpu)\n");
        assert_eq!(std::fs::read_dir(tree.join("lib")).unwrap().count(), 2);
        assert!(!folder.path().join("escaped.h").exists() && !tree.join("escaped.h").exists());
        assert_eq!(bytes, 13);
    }

    #[test]
    fn a_file_that_is_no_archive_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("torch.whl");
        std::fs::write(&wheel, "not a zip").unwrap();
        let plan = Plan::new(Platform::LinuxX86, false).unwrap();
        let error = unpack(&wheel, &plan, folder.path(), &mut |_| {}).unwrap_err();
        assert!(format!("{error:#}").contains("torch.whl"), "{error:#}");
    }
}
