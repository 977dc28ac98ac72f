//! `.libtorch` in the checkout: a link to the libtorch in use, replaced in one step so that no build sees it missing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::failure::Failure;

/// Where the link leads; `None` if there is nothing. A folder that the user put there counts as itself.
pub fn target(link: &Path) -> Option<PathBuf> {
    std::fs::canonicalize(link).ok()
}

/// Points the link at `folder`. A link that already leads there is left alone.
pub fn point(link: &Path, folder: &Path) -> Result<(), Failure> {
    let folder = std::fs::canonicalize(folder).with_context(|| format!("{}", folder.display()))?;
    if std::fs::read_link(link).is_ok_and(|now| now == folder) || target(link).as_ref() == Some(&folder) {
        return Ok(());
    }
    if std::fs::symlink_metadata(link).is_ok_and(|metadata| !metadata.is_symlink()) {
        return Err(Failure::BadLibtorch(format!(
            "{} is in the way: move it elsewhere (and set LIBTORCH to it if it is your own libtorch)",
            link.display()
        )));
    }
    Ok(replace(link, &folder)?)
}

fn replace(link: &Path, folder: &Path) -> Result<()> {
    let mut new = link.as_os_str().to_owned();
    new.push(format!(".{}", std::process::id()));
    std::os::unix::fs::symlink(folder, &new).with_context(|| format!("{}", new.display()))?;
    std::fs::rename(&new, link).with_context(|| format!("{}", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_made_moved_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(folder.path()).unwrap();
        let (link, one, two) = (root.join(".libtorch"), root.join("one"), root.join("two"));
        std::fs::create_dir(&one).unwrap();
        std::fs::create_dir(&two).unwrap();
        assert_eq!(target(&link), None);
        for folder in [&one, &two, &two] {
            point(&link, folder).unwrap();
            assert_eq!(target(&link).as_ref(), Some(folder));
        }
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 3, "no other link is left over");
    }

    #[test]
    fn a_dangling_link_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join(".libtorch");
        std::os::unix::fs::symlink(folder.path().join("gone"), &link).unwrap();
        point(&link, folder.path()).unwrap();
        assert_eq!(target(&link), std::fs::canonicalize(folder.path()).ok());
    }

    #[test]
    fn a_folder_in_the_way_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join(".libtorch");
        std::fs::create_dir(&link).unwrap();
        let refused = point(&link, folder.path());
        assert!(matches!(refused, Err(Failure::BadLibtorch(_))), "{refused:?}");
        assert!(link.is_dir());
    }
}
