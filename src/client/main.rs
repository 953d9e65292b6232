//! The updating client of deployed machines: `ostree container …` finds it as
//! /usr/libexec/libostree/ext/ostree-container. A binary of its own, for it links libostree and nosa must not.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    // `ostree container image …` calls `ostree-container image …`; ostree-ext has that below `container`.
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    arguments.insert(1, "container".into());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(ostree_ext::cli::run_from_iter(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    use std::io::Write as _;
    // Nothing can be done about a closed standard error.
    drop(writeln!(std::io::stderr(), "error: {error:#}"));
    ExitCode::FAILURE
}
