//! Registries that misbehave: what is pushed is whole, or nosa says clearly why it is not.

use std::fs;
use std::sync::{Arc, Mutex};

use nosa::host::Cmd;

use crate::fixture::{nosa, said};
use crate::judge::judge;
use crate::registry_image::Image;
use crate::registry_proxy::{Action, Proxy, Request};
use crate::registry_server::Registry;

/// Options that let tests be quick.
const QUICK: &[&str] = &["--retry", "3", "--retry-delay", "0.01"];

/// `nosa copy-container`, quick to try again.
fn copy(from: &str, to: &str, more: &[&str]) -> Cmd {
    Cmd::program(nosa()).args(["copy-container"]).args(QUICK).args(more).args([from, to])
}

fn succeeds(call: Cmd) -> String {
    let (code, text) = said(call);
    assert_eq!(code, 0, "{text}");
    text
}

/// Runs a call that must fail with exit code `code` and this message at the end.
fn fails(call: Cmd, code: i32, cause: &str, cure: &str) {
    let (found, text) = said(call.arg("-q"));
    assert_eq!(text, format!("error: {cause}\n  {cure}\n"));
    assert_eq!(found, code, "{text}");
}

/// The digest that skopeo sees in the registry.
fn digest(image: &str) -> Option<String> {
    let skopeo = judge("skopeo")?.args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}", image]);
    Some(skopeo.output().unwrap().text().trim().to_owned())
}

/// The image must be whole in the registry: skopeo fetches all of it.
fn assert_whole(registry: &Registry, name: &str, image: &Image) {
    let Some(skopeo) = judge("skopeo") else { return };
    assert_eq!(digest(&registry.image(name)).unwrap(), image.digest);
    let target = image.beside("by-skopeo");
    let copied = skopeo
        .args(["--insecure-policy", "copy", "--src-tls-verify=false"])
        .arg(registry.image(name))
        .arg(format!("dir:{}", target.display()));
    copied.run().unwrap();
    fs::remove_dir_all(target).unwrap();
}

/// A rule that does `action` to the first `times` requests that `which` chooses.
fn first(
    times: usize,
    which: impl Fn(&Request) -> bool + Send + 'static,
    action: Action,
) -> impl FnMut(&Request) -> Action + Send {
    let mut left = times;
    move |request| {
        if left == 0 || !which(request) {
            return Action::Pass;
        }
        left -= 1;
        action.clone()
    }
}

fn error(code: &str, message: &str) -> String {
    format!(r#"{{"errors": [{{"code": "{code}", "message": "{message}"}}]}}"#)
}

fn is_upload(request: &Request) -> bool {
    request.method == "PATCH"
}

fn is_large_blob(image: &Image) -> impl Fn(&Request) -> bool + Send + 'static {
    let path = format!("/blobs/sha256:{}", image.layers[0]);
    move |request| request.method == "GET" && request.path.ends_with(&path)
}

#[test]
fn errors_that_pass_are_outlived_by_every_kind_of_request() {
    let Some(registry) = Registry::start() else { return };
    let image = Image::new(1, &[300_000, 5]);
    for (number, method) in ["GET", "HEAD", "POST", "PATCH", "PUT"].into_iter().enumerate() {
        let broken = Action::Answer(500, Vec::new(), error("UNKNOWN", "a disk is slow"));
        let proxy = Proxy::start(&registry.host, first(3, move |request| request.method == method, broken));
        let name = format!("os{number}:1");
        let text = succeeds(copy(&image.name(), &proxy.image(&name), &[]));
        assert!(text.contains("it answered 500 Internal Server Error"), "{text}");
        assert_whole(&registry, &name, &image);
    }
}

#[test]
fn errors_that_stay_are_told_with_the_registrys_own_words() {
    let Some(registry) = Registry::start() else { return };
    let image = Image::new(2, &[300_000]);
    let broken = Action::Answer(500, Vec::new(), error("UNKNOWN", "the disk is broken"));
    let proxy = Proxy::start(&registry.host, first(usize::MAX, is_upload, broken));
    let call = copy(&image.name(), &proxy.image("os:1"), &[]);
    let (code, text) = said(call.arg("-q"));
    let host = &proxy.host;
    let layer = image.layers[0];
    let ending = format!(
        "to {host}/os failed: it answered 500 Internal Server Error: UNKNOWN: the disk is broken \
         (tried 4 times)\n  run it again when {host} has recovered\n"
    );
    assert!(text.starts_with("error: pushing blob sha256:") && text.ends_with(&ending), "{text}");
    assert_eq!(code, 5);
    assert!(!registry.blobs().contains_key(&layer.to_string()));

    let denied = Action::Answer(403, Vec::new(), error("DENIED", "read-only"));
    let proxy = Proxy::start(&registry.host, first(usize::MAX, |request| request.method == "POST", denied));
    let (code, text) = said(copy(&image.name(), &proxy.image("os:1"), &[]).arg("-q"));
    assert!(text.contains("/os failed: it answered 403 Forbidden: DENIED: read-only\n"), "{text}");
    assert!(text.contains(&format!("sign in (podman login {}), or name --authfile", proxy.host)), "{text}");
    assert_eq!((code, proxy.seen("POST").len() <= 2), (5, true), "what is refused is not tried again");
}

#[test]
fn a_registry_that_asks_to_wait_is_waited_for() {
    let Some(registry) = Registry::start() else { return };
    let image = Image::new(3, &[1_000]);
    let busy = |seconds: &str| {
        let headers = vec![("Retry-After", seconds.to_owned())];
        Action::Answer(429, headers, error("TOOMANYREQUESTS", "slow down"))
    };
    let manifest = |request: &Request| request.method == "PUT" && request.path.contains("/manifests/");
    let proxy = Proxy::start(&registry.host, first(1, manifest, busy("1")));
    let text = succeeds(copy(&image.name(), &proxy.image("os:1"), &[]));
    let told = format!(
        "pushing manifest {} to {}/os: it answered 429 Too Many Requests: TOOMANYREQUESTS: slow down; \
         trying again in 1 s (1 of 3)",
        image.digest, proxy.host
    );
    assert!(text.contains(&told), "{text}");
    assert_whole(&registry, "os:1", &image);

    let proxy = Proxy::start(&registry.host, first(1, manifest, busy("86400")));
    let cause = format!(
        "pushing manifest {} to {}/os failed: it answered 429 Too Many Requests: TOOMANYREQUESTS: slow down",
        image.digest, proxy.host
    );
    let cure = format!("run it again when {} has recovered", proxy.host);
    fails(copy(&image.name(), &proxy.image("os:2"), &[]), 5, &cause, &cure);
}

#[test]
fn an_upload_that_is_cut_goes_on_where_it_was() {
    let Some(registry) = Registry::start() else { return };
    let image = Image::new(4, &[3_000_000]);
    let cut = Action::KeepAndCut(1_000_000);
    let large = |request: &Request| is_upload(request) && request.headers["content-length"].len() > 6;
    let proxy = Proxy::start(&registry.host, first(1, large, cut));
    let text = succeeds(copy(&image.name(), &proxy.image("os:1"), &[]));
    assert!(text.contains("trying again in 0.01 s (1 of 3)"), "{text}");
    let patches = proxy.seen("PATCH");
    let ranges: Vec<&str> =
        patches.iter().filter_map(|patch| patch.headers.get("content-range")).map(String::as_str).collect();
    assert_eq!(ranges, ["1000000-2999999"]);
    assert_whole(&registry, "os:1", &image);
}

#[test]
fn an_upload_that_the_registry_lost_begins_anew() {
    let Some(registry) = Registry::start() else { return };
    let image = Image::new(5, &[3_000_000]);
    let large = |request: &Request| is_upload(request) && request.headers["content-length"].len() > 6;
    let proxy = Proxy::start(&registry.host, first(2, large, Action::CutRequest(500_000)));
    succeeds(copy(&image.name(), &proxy.image("os:1"), &[]));
    assert_whole(&registry, "os:1", &image);
    let ranged =
        proxy.seen("PATCH").iter().filter(|patch| patch.headers.contains_key("content-range")).count();
    assert_eq!(ranged, 0);

    let proxy = Proxy::start(&registry.host, first(usize::MAX, large, Action::CutRequest(500_000)));
    let image = Image::new(6, &[3_000_000]);
    let (code, text) = said(copy(&image.name(), &proxy.image("os:2"), &[]).arg("-q"));
    let beginning = format!("error: pushing blob sha256:{} to {}/os failed: ", image.layers[0], proxy.host);
    assert!(text.starts_with(&beginning) && text.contains(" (tried 4 times)\n"), "{text}");
    assert!(text.ends_with("  see that the registry runs and can be reached, and run it again\n"), "{text}");
    assert_eq!(code, 5);
}

#[test]
fn an_upload_that_never_gets_further_is_given_up() {
    let Some(registry) = Registry::start() else { return };
    let image = Image::new(15, &[3_000_000]);
    let large = |request: &Request| is_upload(request) && request.headers["content-length"].len() > 6;
    // What the registry says that it has, it refuses to go on with.
    let proxy = Proxy::start(&registry.host, move |request| match request {
        request if request.headers.contains_key("content-range") => {
            Action::Answer(416, Vec::new(), error("BLOB_UPLOAD_INVALID", "out of order"))
        }
        request if large(request) => Action::KeepAndCut(1_000_000),
        _ => Action::Pass,
    });
    let (code, text) = said(copy(&image.name(), &proxy.image("os:1"), &[]).arg("-q"));
    assert!(text.starts_with(&format!("error: pushing blob sha256:{} to ", image.layers[0])), "{text}");
    assert!(text.contains("(tried 4 times)"), "{text}");
    assert_eq!(code, 5);
}

#[test]
fn an_upload_that_was_changed_on_its_way_is_sent_again() {
    let Some(registry) = Registry::start() else { return };
    let image = Image::new(13, &[3_000_000]);
    let large = |request: &Request| is_upload(request) && request.headers["content-length"].len() > 6;
    let proxy = Proxy::start(&registry.host, first(1, large, Action::SpoilRequest));
    let text = succeeds(copy(&image.name(), &proxy.image("os:1"), &[]));
    assert!(text.contains("it answered 400 Bad Request: DIGEST_INVALID"), "{text}");
    assert_whole(&registry, "os:1", &image);
}

#[test]
fn a_host_that_is_nowhere_is_told_at_once() {
    let image = Image::new(14, &[5]);
    let (code, text) = said(copy(&image.name(), "docker://nowhere.invalid/os:1", &[]).arg("-q"));
    // Without a name server the answer is another one, and is waited for.
    if !text.contains("emporary failure") {
        let expected = "error: reaching the registry nowhere.invalid failed: there is no host of that name\n  see that \
                        the registry's name is right\n";
        assert_eq!(text, expected);
    }
    assert_eq!(code, 5);
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_was() {
    let Some(registry) = Registry::start() else { return };
    let image = Image::new(7, &[3_000_000]);
    succeeds(copy(&image.name(), &registry.image("os:1"), &[]));
    // More often than is tried again: what comes in counts.
    let proxy = Proxy::start(&registry.host, first(6, is_large_blob(&image), Action::CutAnswer(400_000)));
    let target = image.beside("pulled");
    succeeds(copy(&proxy.image("os:1"), &format!("oci:{}", target.display()), &[]));
    let gets = proxy.seen(&format!("GET /v2/os/blobs/sha256:{}", image.layers[0]));
    let ranges: Vec<Option<&str>> =
        gets.iter().map(|get| get.headers.get("range").map(String::as_str)).collect();
    assert_eq!(ranges[..3], [None, Some("bytes=400000-"), Some("bytes=800000-")]);
    let pulled = fs::read(target.join(format!("blobs/sha256/{}", image.layers[0]))).unwrap();
    assert!(pulled == fs::read(image.blob(image.layers[0])).unwrap());
}

#[test]
fn what_is_fetched_is_what_its_digest_says_or_nothing() {
    let Some(registry) = Registry::start() else { return };
    let image = Image::new(8, &[300_000]);
    succeeds(copy(&image.name(), &registry.image("os:1"), &[]));
    let target = image.beside("pulled");
    let to = format!("oci:{}", target.display());
    let proxy = Proxy::start(&registry.host, first(usize::MAX, is_large_blob(&image), Action::Spoil));
    let (code, text) = said(copy(&proxy.image("os:1"), &to, &[]).arg("-q"));
    let beginning = format!(
        "error: docker://{}/os is damaged: blob sha256:{} has the digest sha256:",
        proxy.host, image.layers[0]
    );
    assert!(text.starts_with(&beginning), "{text}");
    assert!(text.ends_with("  make or push the image again; do not trust where it came from\n"), "{text}");
    assert_eq!(code, 12);

    let manifest = |request: &Request| request.path.contains("/manifests/");
    let proxy = Proxy::start(&registry.host, first(usize::MAX, manifest, Action::Spoil));
    let (code, text) = said(copy(&proxy.image("os:1"), &to, &[]).arg("-q"));
    assert!(
        text.contains(&format!("its manifest should be {}, but has the digest sha256:", image.digest)),
        "{text}"
    );
    assert_eq!(code, 12);
    let left: Vec<_> =
        fs::read_dir(target.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["layout"], "nothing half-made is left");
}

#[test]
fn what_is_pushed_is_what_its_digest_says() {
    let Some(registry) = Registry::start() else { return };
    let image = Image::new(9, &[300_000]);
    let mut bytes = fs::read(image.blob(image.layers[0])).unwrap();
    bytes[299_999] ^= 1;
    fs::write(image.blob(image.layers[0]), &bytes).unwrap();
    let layer = image.layers[0];
    let digest = nosa::pipeline::Digest::of(&bytes);
    fails(
        copy(&image.name(), &registry.image("os:1"), &[]),
        12,
        &format!("{} is damaged: blob sha256:{layer} has the digest sha256:{digest}", image.name()),
        "make or push the image again; do not trust where it came from",
    );
    assert!(!registry.blobs().contains_key(&layer.to_string()));
    assert!(!registry.blobs().contains_key(&digest.to_string()));
}

#[test]
fn a_registry_that_never_answers_is_given_up() {
    let Some(registry) = Registry::start() else { return };
    let image = Image::new(10, &[1_000]);
    let proxy = Proxy::start(&registry.host, first(usize::MAX, |_| true, Action::Silence));
    let call = copy(&image.name(), &proxy.image("os:1"), &["--timeout", "0.3"]);
    let cause = format!(
        "reaching the registry {} failed: it gave no answer within 0.3 s (tried 4 times)",
        proxy.host
    );
    fails(call, 5, &cause, "see that the registry runs and can be reached, and run it again");
    let proxy = Proxy::start(&registry.host, first(1, is_upload, Action::Silence));
    let text = succeeds(copy(&image.name(), &proxy.image("os:1"), &["--timeout", "0.3"]));
    assert!(text.contains("it gave no answer within 0.3 s; trying again"), "{text}");
    assert_whole(&registry, "os:1", &image);
}

/// A proxy that wants a token which is good for `uses` requests, and gives a new one for name and password.
fn with_tokens(registry: &Registry, uses: usize, gives: bool) -> (Proxy, Arc<Mutex<usize>>) {
    let given = Arc::new(Mutex::new(0));
    let (count, mut used) = (Arc::clone(&given), 0);
    let proxy = Proxy::start(&registry.host, move |request| {
        let mut given = count.lock().unwrap();
        let host = &request.headers["host"];
        if request.path.starts_with("/token") {
            let basic = request.headers.get("authorization").map(String::as_str);
            // me:pass
            if !gives || basic != Some("Basic bWU6cGFzcw==") {
                return Action::Answer(401, Vec::new(), error("UNAUTHORIZED", "wrong password"));
            }
            (*given, used) = (*given + 1, 0);
            return Action::Answer(200, Vec::new(), format!(r#"{{"token": "token{given}"}}"#));
        }
        used += 1;
        let good = format!("Bearer token{given}");
        if request.headers.get("authorization") == Some(&good) && used <= uses {
            return Action::Pass;
        }
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="proxy""#);
        Action::Answer(
            401,
            vec![("WWW-Authenticate", challenge)],
            error("UNAUTHORIZED", "authentication required"),
        )
    });
    (proxy, given)
}

#[test]
fn a_token_that_expires_in_the_middle_is_renewed_once() {
    let Some(registry) = Registry::start() else { return };
    let image = Image::new(11, &[300_000, 200_000, 100_000, 4, 5, 6]);
    let (proxy, given) = with_tokens(&registry, 7, true);
    let text = succeeds(copy(&image.name(), &proxy.image("os:1"), &["--creds", "me:pass"]));
    assert!(!text.contains("pass"), "{text}");
    assert_whole(&registry, "os:1", &image);
    let given = *given.lock().unwrap();
    assert!((3..=12).contains(&given), "{given} tokens");
    let scope = &proxy.seen("/token")[0].path;
    assert!(scope.ends_with("?service=proxy&scope=repository%3Aos%3Apull%2Cpush"), "{scope}");
}

#[test]
fn a_wrong_password_is_told_and_not_shown() {
    let Some(registry) = Registry::start() else { return };
    let image = Image::new(12, &[1_000]);
    let (proxy, _) = with_tokens(&registry, 7, true);
    let cause = format!(
        "reaching the registry {} failed: it answered 401 Unauthorized: UNAUTHORIZED: wrong password (asked for \
         a token at 127.0.0.1)",
        proxy.host
    );
    let cure = format!(
        "sign in (podman login {}), or name --authfile; see that the account may do this",
        proxy.host
    );
    fails(copy(&image.name(), &proxy.image("os:1"), &["--creds", "me:hunter2"]), 5, &cause, &cure);
    // A token that is never good enough is asked for once, not for ever.
    let (proxy, given) = with_tokens(&registry, 0, true);
    let (code, text) = said(copy(&image.name(), &proxy.image("os:1"), &["--creds", "me:pass", "-q"]));
    assert!(text.contains("os failed: it answered 401 Unauthorized\n"), "{text}");
    let given = *given.lock().unwrap();
    assert!(code == 5 && given <= 6, "{code}, {given} tokens");
}
