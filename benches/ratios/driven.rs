//! Single stages of nosa as programs of their own, so that they are measured as the others are: the bench
//! starts itself again with one of these words.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use nosa::builds::Workdir;
use nosa::host::{Cmd, environment, fs};
use nosa::ostree::{CommitOptions, Repo, TreeOptions};
use nosa::pipeline::{Cache, Pipeline, Reporter};
use nosa::recipe::{Options, Recipe};
use nosa::sandbox::{self, Entered};

/// The branch of commits that are measured.
pub(crate) const BRANCH: &str = "bench";
const INSTALL: &str = "--nosa-install";
const COMMIT: &str = "--nosa-commit";
const IMAGE: &str = "--nosa-image";
const ZLIB_RS: &str = "--zlib-rs";

/// nosa's install stage in a workdir, with what it needs to know the packages.
pub(crate) fn install(workdir: &Path, downloads: &Path) -> Result<Cmd> {
    Ok(itself()?.args([INSTALL.as_ref(), workdir.as_os_str(), downloads.as_os_str()]))
}

/// nosa's commit of a tree to a repository.
pub(crate) fn commit(tree: &Path, repo: &Path) -> Result<Cmd> {
    Ok(itself()?.args([COMMIT.as_ref(), tree.as_os_str(), repo.as_os_str()]))
}

/// nosa's image of a commit, with a plan that [`crate::image::Layers`] wrote.
pub(crate) fn image(repo: &Path, commit: &str, plan: &Path, how: &str, out: &Path) -> Result<Cmd> {
    let args =
        [IMAGE.as_ref(), repo.as_os_str(), commit.as_ref(), plan.as_os_str(), how.as_ref(), out.as_os_str()];
    Ok(itself()?.args(args))
}

/// zlib-rs over the files of a directory, by two threads.
pub(crate) fn zlib_rs(dir: &Path, out: &Path) -> Result<Cmd> {
    Ok(itself()?.args([ZLIB_RS.as_ref(), dir.as_os_str(), out.as_os_str()]))
}

fn itself() -> Result<Cmd> {
    let program = std::env::current_exe().context("finding the bench's own program file")?;
    let epoch = environment::var("SOURCE_DATE_EPOCH").unwrap_or_else(|| crate::EPOCH.to_owned());
    Ok(Cmd::program(program).env("SOURCE_DATE_EPOCH", epoch))
}

/// Does what this process was started for, if it was.
pub(crate) fn serve(args: &[String]) -> Option<Result<ExitCode>> {
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [INSTALL, workdir, downloads] => Some(run_install(workdir.as_ref(), downloads.as_ref())),
        [COMMIT, tree, repo] => Some(run_commit(tree.as_ref(), repo.as_ref())),
        [IMAGE, repo, commit, plan, how, out] => {
            Some(crate::image::write(repo.as_ref(), commit, plan.as_ref(), how, out.as_ref()).map(success))
        }
        [ZLIB_RS, dir, out] => Some(crate::image::compress(dir.as_ref(), out.as_ref()).map(success)),
        _ => None,
    }
}

fn success((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

fn run_install(workdir: &Path, downloads: &Path) -> Result<ExitCode> {
    if let Entered::Done(code) = sandbox::enter()? {
        return Ok(code);
    }
    let workdir = Workdir::open(workdir)?;
    let cache = Cache::open(&workdir.cache_dir())?;
    let pipeline = Pipeline::new(cache, &workdir.tmp_dir(), Reporter::silent())?;
    let options = Options { variant: workdir.variant()?, ..Options::default() };
    let recipe = Recipe::open(&pipeline, &workdir.config_dir(), downloads, options)?;
    recipe.plan()?;
    Ok(ExitCode::SUCCESS)
}

fn run_commit(tree: &Path, repo: &Path) -> Result<ExitCode> {
    let repo = Repo::create(repo)?;
    let options =
        CommitOptions { branch: BRANCH.to_owned(), subject: BRANCH.to_owned(), ..CommitOptions::default() };
    repo.commit(tree, TreeOptions::default(), &options)?;
    Ok(ExitCode::SUCCESS)
}

/// The checksum of what the branch's commit holds, whatever the commit says.
pub(crate) fn content(repo: &Path) -> Result<String> {
    let repo = Repo::open(repo)?;
    let commit = repo.resolve(BRANCH)?.context("no commit was made")?;
    Ok(repo.commit_object(commit)?.content_checksum().to_string())
}

/// Removes a directory and makes it anew.
pub(crate) fn empty(dir: &Path) -> Result<()> {
    fs::remove_tree(dir)?;
    fs::create_dir_all(dir)
}
