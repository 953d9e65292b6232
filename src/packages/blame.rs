//! Who asked for packages that cannot be had together, and what to do about it.

use super::backend::Request;

/// What a request has to do with a package manager's complaint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blame {
    /// The packages asked for that are in it, each with its place; empty when nobody in particular did.
    pub(super) asked_for: String,
    /// What to do.
    pub(super) cure: String,
}

impl Blame {
    /// Looks which names of the request a complaint mentions.
    pub(super) fn of(request: &Request, mentions: impl Fn(&str) -> bool) -> Self {
        let placed = request.packages.iter().filter(|wanted| !wanted.origin.is_empty());
        let asked_for: Vec<String> = placed
            .filter(|wanted| mentions(&wanted.name))
            .map(|wanted| format!("{} ({})", wanted.name, wanted.origin))
            .collect();
        let excluded: Vec<&str> =
            request.exclude.iter().map(String::as_str).filter(|name| mentions(name)).collect();
        let cure = if excluded.is_empty() {
            "drop one of the packages that fight, or pin a version that fits".to_owned()
        } else {
            let names = excluded.join(", ");
            format!("{names} is in exclude-packages: drop it there, or the package that needs it")
        };
        Self { asked_for: asked_for.join(", "), cure }
    }
}
