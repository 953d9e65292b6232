//! Who signs in: the credentials in podman's and docker's files, and those that a helper of docker's holds
//! (containers-auth.json(5)).

use std::path::{Path, PathBuf};

use anyhow::Result;
use base64::Engine as _;
use serde_json::Value;

use super::access::{Access, Secret};
use crate::failure::{Failure, Kind};
use crate::host::{Cmd, environment, fs};
use crate::oci::Repository;

/// Who signs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// By name and password.
    Password(String, Secret),
    /// By a token that a server of tokens gave.
    Identity(Secret),
}

/// The user's name by which a helper says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// The credentials for a repository; `None` where none are known.
pub(super) fn find(repository: &Repository, access: &Access) -> Result<Option<Credentials>> {
    if let Some((user, password)) = &access.creds {
        return Ok(Some(Credentials::Password(user.clone(), password.clone())));
    }
    let named = access.authfile.clone().or_else(|| environment::var_os("REGISTRY_AUTH_FILE").map(Into::into));
    if let Some(path) = named {
        let text = fs::read_optional(&path)?.ok_or_else(|| {
            let cause = format!("there is no file with credentials at {}", path.display());
            Failure::new(Kind::Usage, cause, "make it: podman login --authfile FILE HOST")
        })?;
        return in_file(&path, &text, repository);
    }
    for path in usual_places() {
        if let Some(text) = fs::read_optional(&path)?
            && let Some(found) = in_file(&path, &text, repository)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Where podman and docker keep credentials, the first that has some wins.
fn usual_places() -> Vec<PathBuf> {
    let home = environment::var_os("HOME").map(PathBuf::from);
    let mut places = Vec::new();
    places.push(match environment::var_os("XDG_RUNTIME_DIR") {
        Some(dir) => PathBuf::from(dir).join("containers/auth.json"),
        None => format!("/run/containers/{}/auth.json", rustix::process::getuid().as_raw()).into(),
    });
    let config = environment::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    places.extend(
        config
            .or_else(|| home.as_ref().map(|home| home.join(".config")))
            .map(|dir| dir.join("containers/auth.json")),
    );
    let docker = environment::var_os("DOCKER_CONFIG").map(PathBuf::from);
    places
        .extend(docker.or_else(|| home.map(|home| home.join(".docker"))).map(|dir| dir.join("config.json")));
    places
}

/// The credentials that a file has for a repository, by itself or by the helper that it names.
fn in_file(path: &Path, text: &str, repository: &Repository) -> Result<Option<Credentials>> {
    let wrong = |what: &str| {
        Failure::new(
            Kind::Usage,
            format!("{} is not a file with credentials: {what}", path.display()),
            "write it anew with `podman login`, or name another by --authfile",
        )
    };
    if text.trim().is_empty() {
        return Ok(None);
    }
    let file: Value = serde_json::from_str(text).map_err(|error| wrong(&error.to_string()))?;
    if let Some(helper) = file["credHelpers"][&repository.host].as_str() {
        return ask_helper(helper, &repository.host);
    }
    let Some(entries) = file["auths"].as_object() else { return Ok(None) };
    for scope in scopes(repository) {
        let entry = entries.get(&scope).or_else(|| {
            let mut others = entries.iter().filter(|(key, _)| host_of(key) == scope);
            others.next().map(|(_, entry)| entry)
        });
        let Some(entry) = entry else { continue };
        if let Some(token) = entry["identitytoken"].as_str().filter(|token| !token.is_empty()) {
            return Ok(Some(Credentials::Identity(Secret::new(token))));
        }
        let Some(auth) = entry["auth"].as_str().filter(|auth| !auth.is_empty()) else { continue };
        let found = decode(auth);
        return match found {
            Some(found) => Ok(Some(found)),
            // Neither the value nor a part of it may be shown.
            None => Err(wrong(&format!("auths.{scope}.auth is not base64 of NAME:PASSWORD")).into()),
        };
    }
    Ok(None)
}

/// The keys under which a repository's credentials may be, the most specific first.
fn scopes(repository: &Repository) -> Vec<String> {
    let mut scope = format!("{}/{}", repository.host, repository.name);
    let mut scopes = vec![scope.clone()];
    while let Some((shorter, _)) = scope.rsplit_once('/') {
        scope = shorter.to_owned();
        scopes.push(scope.clone());
    }
    scopes
}

/// The host of a key in docker's older spelling: `https://HOST/v1/`.
fn host_of(key: &str) -> &str {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    bare.map_or("", |bare| bare.split('/').next().unwrap_or_default())
}

fn decode(auth: &str) -> Option<Credentials> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(auth.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    // Docker once padded with zero bytes.
    Some(Credentials::Password(user.to_owned(), Secret::new(password.trim_matches('\0'))))
}

/// Asks `docker-credential-NAME`, which reads a host and answers JSON.
fn ask_helper(name: &str, host: &str) -> Result<Option<Credentials>> {
    let program = format!("docker-credential-{name}");
    let failed = |what: String| {
        let cure = format!("see what `echo {host} | {program} get` says, or name an --authfile without it");
        Failure::new(Kind::Tool, format!("{program}, which the file with credentials names, {what}"), cure)
    };
    if name.contains('/') {
        return Err(failed("is not a helper's name".to_owned()).into());
    }
    let mut call = Cmd::program(&program).arg("get").stdin(host);
    for variable in ["XDG_CONFIG_HOME", "DBUS_SESSION_BUS_ADDRESS", "GNUPGHOME", "PASSWORD_STORE_DIR"] {
        if let Some(value) = environment::var_os(variable) {
            call = call.env(variable, value);
        }
    }
    let answer = match call.output() {
        Ok(output) => output.stdout,
        // The protocol's one way to say that there is nothing.
        Err(error) if format!("{error:#}").contains("credentials not found") => return Ok(None),
        Err(error) => return Err(failed(format!("failed: {error:#}")).into()),
    };
    let answer: Value =
        serde_json::from_slice(&answer).map_err(|_| failed("did not answer in JSON".to_owned()))?;
    match (answer["Username"].as_str(), answer["Secret"].as_str()) {
        (Some(TOKEN_USER), Some(token)) => Ok(Some(Credentials::Identity(Secret::new(token)))),
        (Some(user), Some(secret)) => Ok(Some(Credentials::Password(user.to_owned(), Secret::new(secret)))),
        _ => Err(failed("answered without Username or Secret".to_owned()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base64(text: &str) -> String {
        base64::engine::general_purpose::STANDARD.encode(text)
    }

    fn look(file: &str, repository: &str) -> Result<Option<Credentials>> {
        in_file(Path::new("auth.json"), file, &repository.parse().unwrap())
    }

    fn password(user: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Password(user.to_owned(), Secret::new(password)))
    }

    #[test]
    fn the_most_specific_key_wins() {
        let file = format!(
            r#"{{"auths": {{"r.example": {{"auth": "{}"}}, "r.example/os": {{"auth": "{}"}},
                "r.example/os/base": {{"auth": "{}"}}, "other:5000": {{"auth": "{}"}}}}}}"#,
            base64("host:1"),
            base64("space:2:3"),
            base64("whole:4"),
            base64("port:5")
        );
        for (repository, found) in [
            ("r.example/os/base", password("whole", "4")),
            ("r.example/os/base/more:1", password("whole", "4")),
            ("r.example/os/other", password("space", "2:3")),
            ("r.example/osx", password("host", "1")),
            ("other:5000/x", password("port", "5")),
            ("other/x", None),
        ] {
            assert_eq!(look(&file, repository).unwrap(), found, "{repository}");
        }
    }

    #[test]
    fn dockers_older_keys_count_and_empty_entries_do_not() {
        let file = format!(
            r#"{{"auths": {{"https://r.example/v1/": {{"auth": "{}"}}, "r.example/os": {{}}}}}}"#,
            base64("old:1")
        );
        assert_eq!(look(&file, "r.example/os").unwrap(), password("old", "1"));
        assert_eq!(look("", "r.example/os").unwrap(), None);
        assert_eq!(look("{}", "r.example/os").unwrap(), None);
    }

    #[test]
    fn an_identity_token_wins_over_a_password() {
        let file = format!(
            r#"{{"auths": {{"r.example": {{"auth": "{}", "identitytoken": "tok"}}}}}}"#,
            base64("a:b")
        );
        let found = look(&file, "r.example/os").unwrap();
        assert_eq!(found, Some(Credentials::Identity(Secret::new("tok"))));
    }

    #[test]
    fn a_broken_file_is_told_without_its_secrets() {
        let error = look("{\"auths\": ", "r.example/os").unwrap_err().to_string();
        assert!(error.starts_with("auth.json is not a file with credentials: EOF"), "{error}");
        let file = format!(r#"{{"auths": {{"r.example": {{"auth": "{}"}}}}}}"#, base64("hunter2"));
        let error = look(&file, "r.example/os").unwrap_err().to_string();
        assert_eq!(
            error,
            "auth.json is not a file with credentials: auths.r.example.auth is not base64 of NAME:PASSWORD"
        );
    }
}
