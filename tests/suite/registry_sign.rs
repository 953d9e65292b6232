//! Images signed in the registry: skopeo's policy takes them and no other. Debian 12's skopeo has sigstore
//! switched off; there nosa says so before it pushes anything.

use std::fs;
use std::io::Write as _;

use nosa::host::Cmd;
use serde_json::json;

use crate::judge::judge;
use crate::registry_image::Image;
use crate::registry_server::Registry;
use crate::small::Small;

/// A key for this test alone; its passphrase is `pass`.
const PRIVATE: &str = "\
    -----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----\n\
    eyJrZGYiOnsibmFtZSI6InNjcnlwdCIsInBhcmFtcyI6eyJOIjo2NTUzNiwiciI6\n\
    OCwicCI6MX0sInNhbHQiOiJVcFRKdmdUZXM2OFErNWVDZFJLMTN2UlI0ZTJhNkdW\n\
    WVBQYmRXRDEzbXljPSJ9LCJjaXBoZXIiOnsibmFtZSI6Im5hY2wvc2VjcmV0Ym94\n\
    Iiwibm9uY2UiOiJkTlQ3M1cvY0N5bStpcWY0dFlPZ2JaaVB5TmUyeGVpdCJ9LCJj\n\
    aXBoZXJ0ZXh0IjoiU1RuOVcrakc0WjJOdEFyUnhLSjJvOUpDZHFXbDJmeXhVbExy\n\
    eGhNRjBWNWJvTXZFVTRqSzVBOC9lK3I5ZVcwR1JhUU85VEJ1a3ZmUDlYK3NCcUxN\n\
    bzZTZDJ3Qy9zMHFEbkdrR1c2ZzFqai9Zd2kvclF4cS92TlBJbk1yREZIWnFpYzM1\n\
    SFhFMjEzUmh5ejFnZ0Q5dWdpWWVJZ1o4UW1EQlR4TTFTaW5BQVZnYndLREtCYzIx\n\
    SGMwUEp0SVRzU3BWRmVvc1JlaDN5S3JiakE9PSJ9\n\
    -----END ENCRYPTED COSIGN PRIVATE KEY-----\n";
const PUBLIC: &str = "\
    -----BEGIN PUBLIC KEY-----\n\
    MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEifuMcWuZB1omPh5PqRDTpxd0Xx9\n\
    1rzAv27s64EIn5ht35O9WAru5TYPzvSuLn7vcCCqaNkRi5wGGAFW5B+epA==\n\
    -----END PUBLIC KEY-----\n";

/// Whether the host's skopeo signs.
fn signs(skopeo: &Cmd) -> bool {
    let version = skopeo.clone().arg("--version").output().unwrap().text();
    let numbers = version.split_whitespace().nth(2).unwrap_or_default();
    let mut numbers = numbers.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(1), Some(11))
}

#[test]
fn a_signed_image_passes_a_policy_and_an_unsigned_one_does_not() {
    let (Some(registry), Some(skopeo)) = (Registry::start(), judge("skopeo")) else { return };
    let image = Image::new(40, &[50_000]);
    let small = Small::new();
    small.publish("1.0", &[("ostree", "ostree.x86_64.ociarchive", &image.archive())]);
    let file = |name: &str, text: &str| {
        let path = small.dir.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (private, public) = (file("key.private", PRIVATE), file("key.pub", PUBLIC));
    let (passphrase, wrong) = (file("passphrase", "pass"), file("wrong", "another"));
    let target = format!("{}/os", registry.host);
    let sign = |key: &str, passphrase: &str| {
        [
            "push-container",
            &target,
            "--tag",
            "stable",
            "--sign-by-sigstore-private-key",
            key,
            "--sign-passphrase-file",
            passphrase,
        ]
        .map(str::to_owned)
    };
    fn refs(args: &[String]) -> Vec<&str> {
        args.iter().map(String::as_str).collect()
    }
    let by_digest = format!("{target}@{}", image.digest);
    let untagged: Vec<String> = sign(&private, &passphrase).into_iter().collect();
    let untagged = [vec![untagged[0].clone(), by_digest], untagged[4..].to_vec()].concat();
    small.refused(&refs(&untagged), 2, &["has no tag, and a signature is of a tag", "--tag"]);
    assert!(registry.blobs().is_empty());
    if !signs(&skopeo) {
        small.refused(
            &refs(&sign(&private, &passphrase)),
            9,
            &["is too old: 1.11 or later is needed for signing images"],
        );
        assert!(registry.blobs().is_empty());
        // The refusal is proved; the rest is where the skopeo is newer, as in Debian 13.
        let told = b"SKIPPED: this skopeo does not sign, so no signature was made and checked\n";
        std::io::stderr().write_all(told).unwrap();
        return;
    }
    small.refused(&refs(&sign(&public, &passphrase)), 2, &["key.pub is not a private key of sigstore's"]);
    assert!(registry.blobs().is_empty());
    small.refused(
        &refs(&sign(&private, &wrong)),
        7,
        &["signing docker://", "the image is pushed, but not signed"],
    );
    assert!(small.meta("1.0")["base-oscontainer"].is_null(), "what is not signed is not recorded");
    small.ok(&refs(&sign(&private, &passphrase)));
    assert_eq!(small.meta("1.0")["base-oscontainer"]["digest"], *image.digest);
    let unsigned = Image::new(41, &[50_000]);
    small.ok(&["copy-container", "-q", &unsigned.name(), &registry.image("os:unsigned")]);

    let signed_by = json!({"type": "sigstoreSigned", "keyPath": public});
    let policy =
        json!({"default": [{"type": "reject"}], "transports": {"docker": {&registry.host: [signed_by]}}});
    let policy = file("policy.json", &policy.to_string());
    fs::create_dir(small.dir.join("registries.d")).unwrap();
    file(
        "registries.d/x.yaml",
        &json!({"docker": {&registry.host: {"use-sigstore-attachments": true}}}).to_string(),
    );
    let fetch = |tag: &str| {
        let call = skopeo
            .clone()
            .args(["--policy", &policy])
            .arg("--registries.d")
            .arg(small.dir.join("registries.d"));
        let call = call.args(["copy", "--src-tls-verify=false", &registry.image(&format!("os:{tag}"))]);
        call.arg(format!("dir:{}", small.dir.join(tag).display())).run()
    };
    fetch("1.0-x86_64").unwrap();
    fetch("stable").unwrap();
    let index = sign(&private, &passphrase).map(|arg| {
        arg.replace("push-container", "push-container-manifest").replace(&target, "--artifact=ostree")
    });
    small.ok(&[&refs(&index)[..], &["--tag", "index", "--repo", &target]].concat());
    fetch("index").unwrap();
    let refusal = format!("{:#}", fetch("unsigned").unwrap_err());
    assert!(refusal.contains("A signature was required, but no signature exists"), "{refusal}");
}
