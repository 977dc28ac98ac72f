//! `cargo xtask setup`: libtorch in the user's cache folder, and the checkout's `.libtorch` pointing at it.
//!
//! A second checkout downloads nothing; a finished set-up is recognised by its stamp in a few milliseconds. The user's
//! own `LIBTORCH` or `LIBTORCH_USE_PYTORCH` wins: it is checked and linked too, so that programs find it when they
//! start. A link to any other right libtorch is kept.

mod check;
mod link;
mod pip;
mod store;
mod table;
mod unpack;
mod wheels;

use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::progress::{Bar, megabytes, phase};
use crate::repo::Repo;
use pip::Pip;
use store::Store;
use wheels::{Plan, Platform, VERSION};

/// What the user asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The CUDA libraries too.
    pub cuda: bool,
    /// Download again, whatever is there.
    pub force: bool,
}

/// Makes sure that libtorch is there and linked.
pub fn run(repo: &Repo, options: Options) -> Result<(), Failure> {
    check::compiler()?;
    let link = repo.libtorch();
    let suffix = if cfg!(target_os = "macos") { "dylib" } else { "so" };
    if let Some((variable, folder)) = users_own(repo)? {
        if let Some(fault) = check::fault(&folder, suffix) {
            return Err(Failure::BadLibtorch(format!(
                "{variable} is set, but {fault}: point it at a folder with libtorch {VERSION}, or unset it to let set-up \
                 bring one"
            )));
        }
        link::point(&link, &folder)?;
        phase(&format!("libtorch of {variable}: {}", folder.display()));
        return Ok(());
    }
    let plan = plan(options.cuda)?;
    if !options.force
        && let Some(folder) = link::target(&link)
        && serves(&folder, &plan)
    {
        phase(&format!("libtorch {VERSION} is ready: {}", folder.display()));
        return Ok(());
    }
    let store = Store::new(&plan)?;
    let _lock = store.lock(|| phase("another set-up is running; waiting for it to finish"))?;
    if options.force || !store::is_whole(&store.finished(), &plan) {
        fetch(&store, &plan, !options.force)?;
    }
    link::point(&link, &store.finished())?;
    phase(&format!("libtorch {VERSION} is ready: {}", store.finished().display()));
    Ok(())
}

/// The libtorch that the user's environment names, with the variable that names it.
fn users_own(repo: &Repo) -> Result<Option<(&'static str, PathBuf)>, Failure> {
    if std::env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        return Ok(Some(("LIBTORCH_USE_PYTORCH", check::python_torch()?)));
    }
    Ok(repo.own_libtorch().map(|folder| ("LIBTORCH", folder)))
}

fn plan(cuda: bool) -> Result<Plan, Failure> {
    let (system, processor) = (std::env::consts::OS, std::env::consts::ARCH);
    let platform = Platform::of(system, processor).filter(|_| !cfg!(target_env = "musl")).ok_or_else(|| {
        Failure::Unsupported(format!(
            "there is no PyTorch wheel for {system} on {processor}{}: set LIBTORCH to a folder with libtorch {VERSION}",
            if cfg!(target_env = "musl") { " with musl" } else { "" }
        ))
    })?;
    Plan::new(platform, cuda).ok_or_else(|| {
        Failure::Unsupported(format!(
            "set-up brings CUDA on Linux x86-64 only: install PyTorch {VERSION} with CUDA and set LIBTORCH_USE_PYTORCH=1"
        ))
    })
}

/// Whether what the link leads to will do: a whole set-up of ours, with CUDA at least if asked for, or a right libtorch
/// that somebody else put there.
fn serves(folder: &Path, plan: &Plan) -> bool {
    if store::is_ours(folder) {
        let with_cuda = Plan::new(plan.platform, true);
        return store::is_whole(folder, plan) || with_cuda.is_some_and(|plan| store::is_whole(folder, &plan));
    }
    check::fault(folder, plan.platform.library_suffix()).is_none()
        && (!plan.cuda || folder.join("lib/libtorch_cuda.so").is_file())
}

/// Downloads what is missing, checks it, unpacks it and puts it in place.
fn fetch(store: &Store, plan: &Plan, resume: bool) -> Result<(), Failure> {
    let pip = Pip::find()?;
    let folders = store.prepare(resume)?;
    let (need, free) = (store::needed_bytes(plan, |wheel| store.has(wheel)), store::free_bytes(&store.partial())?);
    if free < need {
        return Err(Failure::DiskFull { place: store.partial(), need, free });
    }
    let kept = plan.wheels.iter().filter(|wheel| store.has(wheel)).map(|wheel| wheel.size).sum();
    phase(&format!(
        "downloading libtorch {VERSION} ({} in {} packages{}) with pip {}",
        megabytes(plan.download()),
        plan.wheels.len(),
        if kept > 0 { format!(", {} there already", megabytes(kept)) } else { String::new() },
        pip.version
    ));
    download(store, plan, &pip, &folders, kept)?;
    phase("every download has its pinned SHA-256; unpacking");
    let (tree, mut written) = (store.tree(), 0);
    {
        let mut bar = Bar::new(plan.unpacked, 0);
        for wheel in plan.wheels {
            unpack::unpack(&store.wheels().join(wheel.file), plan, &tree, &mut |more| {
                written += more;
                bar.at(wheel.name(), written);
            })?;
        }
        bar.at("done", plan.unpacked);
    }
    unpack::complete(plan, &tree)?;
    if let Some(fault) = check::fault(&tree, plan.platform.library_suffix()) {
        return Err(Failure::Other(anyhow::anyhow!("the wheels do not hold what they should: {fault}")));
    }
    Ok(store.finish(plan)?)
}

fn download(store: &Store, plan: &Plan, pip: &Pip, folders: &pip::Folders, kept: u64) -> Result<(), Failure> {
    let mut bar = Bar::new(plan.download(), kept);
    let mut done = kept;
    for wheel in plan.wheels.iter().filter(|wheel| !store.has(wheel)) {
        // pip copies a finished file once more, so more bytes than the wheel's may lie there for a moment.
        let path = pip.download(wheel, folders, &mut |bytes| bar.at(wheel.name(), done + bytes.min(wheel.size)))?;
        store.accept(wheel, &path)?;
        done += wheel.size;
        bar.at(wheel.name(), done);
    }
    Ok(())
}
