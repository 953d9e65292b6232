//! dnf's complaints as failures that name the repository or package and what to do.

use serde_json::Value;

use super::config::YumRepository;
use super::session::Refusal;
use crate::failure::{Failure, Kind};
use crate::packages::backend::Request;
use crate::packages::blame::Blame;

/// A refusal that no request can explain better; what concerns packages asked for is passed on as it is.
pub(super) fn of_repository(refusal: Refusal, repositories: &[YumRepository]) -> anyhow::Error {
    let repo = refusal.text("repo");
    let file = repositories.iter().find(|repository| repository.id == repo).map(|found| &found.file);
    let place = match file {
        Some(file) => format!("{file}: repository `{repo}`"),
        None if repo.is_empty() => "the repositories".to_owned(),
        None => format!("repository `{repo}`"),
    };
    let text = one_line(refusal.text("text"));
    if refusal.kind == "local" {
        let cause = format!("{}: cannot be read as a package: {text}", refusal.text("path"));
        return Failure::new(Kind::Config, cause, "put a whole *.rpm file there, or remove it").into();
    }
    let (cause, cure) = match refusal.kind.as_str() {
        "repository" => (
            format!("{place} cannot be read: {text}"),
            "check the network and its address, then run it again: what was downloaded is kept",
        ),
        "download" => (
            format!("a package cannot be downloaded: {text}"),
            "run it again: what was downloaded is kept; `nosa fetch` asks what the repositories have now",
        ),
        "gone" => (
            format!(
                "{place} no longer has {} {}, which was resolved earlier",
                refusal.text("name"),
                refusal.text("evr")
            ),
            "run `nosa fetch` to ask what the repositories have now",
        ),
        "signature" => (
            format!("{place}: the signature of {} does not hold: {text}", refusal.text("name")),
            "name the key it is signed with in `gpgkey`; `gpgcheck=0` trusts unsigned packages",
        ),
        "dnf" => (format!("dnf: {text}"), "see its log"),
        _ => return refusal.into(),
    };
    Failure::new(Kind::Repository, cause, cure).into()
}

/// What concerns packages asked for, with who asked.
pub(super) fn explain(error: anyhow::Error, request: &Request) -> anyhow::Error {
    let Some(refusal) = error.downcast_ref::<Refusal>() else { return error };
    match refusal.kind.as_str() {
        "unknown" => unknown(refusal, request).into(),
        "conflict" => conflict(refusal.text("text"), request).into(),
        _ => error,
    }
}

fn unknown(refusal: &Refusal, request: &Request) -> Failure {
    let packages = refusal.more.get("packages").and_then(Value::as_array);
    let packages: Vec<&Value> = packages.into_iter().flatten().collect();
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let Some(first) = packages.first() else {
        return Failure::new(Kind::Resolve, "dnf finds no set of packages", "see its log");
    };
    let place = |name: &str| match request.packages.iter().find(|wanted| wanted.name == name) {
        Some(wanted) if !wanted.origin.is_empty() => format!("{}: ", wanted.origin),
        _ => String::new(),
    };
    let asked = name(first);
    if first["hidden"].as_bool() == Some(true) {
        let cause = format!("{}package {asked} is asked for and excluded", place(&asked));
        let cure = if request.exclude.contains(&asked) {
            "drop it from packages or from exclude-packages"
        } else {
            "see repo-packages, lockfile-repos and the lock: they hide what the repositories have of it"
        };
        return Failure::new(Kind::Resolve, cause, cure);
    }
    let others: Vec<String> = packages.iter().skip(1).map(|value| name(value)).collect();
    let others = if others.is_empty() { String::new() } else { format!(" (nor {})", others.join(", ")) };
    Failure::new(
        Kind::Resolve,
        format!("{}no repository has a package {asked}{others}", place(&asked)),
        match first["near"].as_str() {
            Some(near) => {
                format!("is {near} meant? Else correct the name, or add the repository that has it")
            }
            None => "correct the name, or add the repository that has it".to_owned(),
        },
    )
}

fn conflict(text: &str, request: &Request) -> Failure {
    let mentioned = |name: &str| {
        text.split(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c)))
            .any(|word| word == name || word.strip_prefix(name).is_some_and(starts_a_version))
    };
    let Blame { asked_for, cure } = Blame::of(request, mentioned);
    let from = if asked_for.is_empty() { String::new() } else { format!(" (asked for: {asked_for})") };
    let cause = format!("the packages cannot be installed together{from}:{}", indented(text));
    Failure::new(Kind::Resolve, cause, cure)
}

fn starts_a_version(rest: &str) -> bool {
    rest.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// dnf's problems, one below the other.
fn indented(text: &str) -> String {
    text.lines().filter(|line| !line.trim().is_empty()).map(|line| format!("\n   {line}")).collect()
}

/// dnf's problems are lines with indentation; a cause is one.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| line.trim_start_matches("- ")).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::Wanted;

    fn request() -> Request {
        let wanted =
            |name: &str| Wanted { name: name.into(), origin: format!("manifest.yaml:{}", name.len()) };
        Request {
            packages: vec![wanted("jq"), wanted("chrony"), wanted("jqq")],
            exclude: vec!["libjq1".into()],
            ..Request::default()
        }
    }

    #[test]
    fn conflicts_name_who_asked_and_what_excludes() {
        let text = "\n Problem: package jq-1.7-6.x86_64 requires libjq1 = 1.7-6\n  - package libjq1-1.7-6.x86_64 is filtered out by exclude filtering";
        let failure = conflict(text, &request());
        assert_eq!(
            failure.cause,
            "the packages cannot be installed together (asked for: jq (manifest.yaml:2)):\n    Problem: package jq-1.7-6.x86_64 requires libjq1 = 1.7-6\n     - package libjq1-1.7-6.x86_64 is filtered out by exclude filtering"
        );
        assert!(failure.cure.starts_with("libjq1 is in exclude-packages"));
    }

    #[test]
    fn unknown_packages_come_with_their_place_and_neighbour() {
        let refusal = |text: &str| serde_json::from_str::<Refusal>(text).unwrap();
        let failure = unknown(
            &refusal(r#"{"kind":"unknown","packages":[{"name":"jqq","hidden":false,"near":"jq"}]}"#),
            &request(),
        );
        assert_eq!(failure.cause, "manifest.yaml:3: no repository has a package jqq");
        assert!(failure.cure.starts_with("is jq meant?"));
        let failure = unknown(
            &refusal(r#"{"kind":"unknown","packages":[{"name":"jq","hidden":true,"near":null}]}"#),
            &request(),
        );
        assert_eq!(failure.cause, "manifest.yaml:2: package jq is asked for and excluded");
    }
}
