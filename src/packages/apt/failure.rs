//! apt's complaints as failures that name the repository or package and what to do.

use super::config::Repository;
use crate::failure::{Failure, Kind};
use crate::host::CommandError;
use crate::packages::backend::Request;
use crate::packages::blame::Blame;

/// What went wrong in `apt-get update` or a download.
pub(super) fn of_update(
    output: &[String],
    repositories: &[Repository],
    error: anyhow::Error,
) -> anyhow::Error {
    let complaints: Vec<&str> = output
        .iter()
        .map(String::as_str)
        .filter(|line| line.starts_with("E:") || line.starts_with("W:") || line.starts_with("Err:"))
        .collect();
    let said = complaints.join(" ");
    let files = || {
        let files: Vec<&str> = repositories
            .iter()
            .filter(|repository| repository.suites.iter().any(|suite| said.contains(suite.as_str())))
            .map(|repository| repository.file.as_str())
            .collect();
        if files.is_empty() { "the repositories".to_owned() } else { files.join(", ") }
    };
    if ["NO_PUBKEY", "BADSIG", "EXPKEYSIG", "not signed", "signatures couldn't be verified", "Signed-By"]
        .iter()
        .any(|word| said.contains(word))
    {
        let reason = complaints
            .iter()
            .find(|line| {
                line.contains("GPG error")
                    || line.contains("signature")
                    || line.contains("signed")
                    || line.contains("expired")
            })
            .unwrap_or(&"");
        return Failure::new(
            Kind::Repository,
            format!("{}: the repository's signature does not hold: {}", files(), plain(reason)),
            "check Signed-By in the repository definition, the clock, and whether the mirror is complete",
        )
        .into();
    }
    if [
        "Could not resolve",
        "Could not connect",
        "Connection failed",
        "Unable to connect",
        "Temporary failure",
        "404",
        "403",
        "500",
        "timed out",
        "File not found",
        "does not have a Release file",
        "Hash Sum mismatch",
        "Failed to fetch",
    ]
    .iter()
    .any(|word| said.contains(word))
    {
        let reason =
            complaints.iter().find(|line| line.starts_with("E:")).or(complaints.first()).unwrap_or(&"");
        return Failure::new(
            Kind::Repository,
            format!("{}: the repository cannot be read: {}", files(), plain(reason)),
            "check the network and the mirror's address (--debian-mirror), then run it again: what was downloaded is kept",
        )
        .into();
    }
    error.context("asking the package repositories")
}

/// What went wrong in resolving.
pub(super) fn of_resolve(request: &Request, printed: &[String], error: anyhow::Error) -> anyhow::Error {
    if error.downcast_ref::<CommandError>().is_none() {
        return error;
    }
    let complaints: Vec<&str> = printed.iter().map(|line| line.trim()).collect();
    let Some(first) = complaints.iter().position(|line| line.contains("unmet dependencies")) else {
        let said: Vec<&str> = complaints.iter().copied().filter(|line| line.starts_with("E:")).collect();
        let said = if said.is_empty() { complaints.join("; ") } else { said.join("; ") };
        return Failure::new(
            Kind::Resolve,
            format!("apt finds no set of packages: {}", plain(&said)),
            "change the list of packages or the repositories",
        )
        .into();
    };
    let details: Vec<&str> =
        complaints[first + 1..].iter().copied().take_while(|line| !line.starts_with("E:")).collect();
    let Blame { asked_for, cure } =
        Blame::of(request, |name| details.iter().any(|line| mentions(line, name)));
    let from = if asked_for.is_empty() { String::new() } else { format!("; asked for: {asked_for}") };
    let cause = format!("the packages cannot be installed together: {}{from}", details.join("; "));
    Failure::new(Kind::Resolve, cause, cure).into()
}

fn mentions(line: &str, name: &str) -> bool {
    line.split(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))).any(|word| word == name)
}

fn plain(line: &str) -> String {
    line.trim_start_matches("E:").trim_start_matches("W:").trim().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::Wanted;

    #[test]
    fn conflicts_name_who_asked() {
        let tail = "The following packages have unmet dependencies:\n chrony : Conflicts: time-daemon\nE: Unable to correct problems, you have held broken packages.";
        let command = CommandError {
            command: "apt-get".into(),
            code: Some(100),
            status: "exit code 100".into(),
            tail: Vec::new(),
            log: None,
        };
        let wanted = Wanted { name: "chrony".into(), origin: "manifest.yaml:3".into() };
        let request = Request { packages: vec![wanted], ..Request::default() };
        let printed: Vec<String> = tail.lines().map(str::to_owned).collect();
        let error = of_resolve(&request, &printed, command.into());
        assert_eq!(
            error.to_string(),
            "the packages cannot be installed together: chrony : Conflicts: time-daemon; asked for: chrony (manifest.yaml:3)"
        );
    }

    #[test]
    fn a_bad_signature_is_not_called_unreachable() {
        let output = [
            "W: GPG error: http://x trixie InRelease: BADSIG 12",
            "E: The repository 'http://x trixie InRelease' is not signed.",
        ];
        let output: Vec<String> = output.map(str::to_owned).into();
        let error = of_update(&output, &[], anyhow::anyhow!("x"));
        assert!(error.to_string().contains("signature does not hold"), "{error}");
        let output = vec!["E: Failed to fetch http://x/InRelease  Could not connect to x:80".to_owned()];
        assert!(of_update(&output, &[], anyhow::anyhow!("x")).to_string().contains("cannot be read"));
    }
}
