//! Registries behind TLS: certificates, and no way down to plain http.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use nosa::host::Cmd;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::fixture::{nosa, said};
use crate::registry_image::Image;
use crate::registry_proxy::answer;
use crate::registry_server::Registry;

/// A certificate for 127.0.0.1, as `ca.crt`, and its key.
fn certificate(dir: &Path) {
    let openssl = Cmd::program("openssl").args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "30"]);
    let openssl = openssl.args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=127.0.0.1"]);
    let openssl = openssl.args([
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]);
    openssl.arg("-keyout").arg(dir.join("server.pem")).arg("-out").arg(dir.join("ca.crt")).run().unwrap();
}

fn copy(args: &[&str]) -> (i32, String) {
    let call = Cmd::program(nosa()).args(["copy-container", "-q", "--retry", "2", "--retry-delay", "0.01"]);
    said(call.args(args))
}

#[test]
fn a_certificate_is_checked_unless_one_says_otherwise() {
    let place = tempfile::tempdir().unwrap();
    certificate(place.path());
    let path = |name: &str| place.path().join(name).display().to_string();
    // docker-registry has its listener's settings in one key, which the test's registry writes itself.
    let tls = format!("  tls: {{certificate: {}, key: {}}}\n", path("ca.crt"), path("server.pem"));
    let Some(registry) = Registry::start_with(&tls) else { return };
    let image = Image::new(30, &[1_000_000]);
    let (from, to) = (image.name(), registry.image("os:1"));
    let (code, text) = copy(&[&from, &to]);
    let expected = format!(
        "error: reaching the registry {} failed: the registry's certificate is not trusted: UnknownIssuer\n  \
         put its CA into a directory as *.crt and name that by --cert-dir\n",
        registry.host
    );
    assert_eq!((code, text), (5, expected));
    assert_eq!(copy(&[&from, &to, "--cert-dir", &path("")]), (0, format!("{to} {}\n", image.digest)));
    let back = format!("oci:{}", image.beside("back").display());
    assert_eq!(copy(&[&to, &back, "--tls-verify=false"]), (0, format!("{back} {}\n", image.digest)));
}

#[test]
fn plain_http_is_for_loopback_or_for_who_says_so() {
    let Some(registry) = Registry::start() else { return };
    let image = Image::new(31, &[1_000]);
    let (code, text) = copy(&[&image.name(), &registry.image("os:1"), "--tls-verify"]);
    let expected = format!(
        "error: reaching the registry {} failed: {} speaks plain http, not https\n  if the way there is safe, say \
         --tls-verify=false\n",
        registry.host, registry.host
    );
    assert_eq!((code, text), (5, expected));
    assert_eq!(copy(&[&image.name(), &registry.image("os:1")]).0, 0);
}

type Answer = (u16, Vec<(&'static str, String)>, String);

/// A server behind TLS that answers each path as `rule` says; it serves until the test's process ends.
fn serve(dir: &Path, rule: impl Fn(&str) -> Answer + Send + Sync + 'static) -> String {
    let certificate = CertificateDer::from_pem_file(dir.join("ca.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("server.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let rule = Arc::new(rule);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (config, rule) = (Arc::clone(&config), Arc::clone(&rule));
            std::thread::spawn(move || {
                let connection = rustls::ServerConnection::new(config).unwrap();
                let mut tls = rustls::StreamOwned::new(connection, stream.unwrap());
                let mut lines = BufReader::new(&mut tls).lines().map_while(Result::ok);
                let Some(first) = lines.next() else { return };
                lines.take_while(|line| !line.is_empty()).for_each(drop);
                let (status, headers, body) = rule(first.split(' ').nth(1).unwrap());
                drop(answer(&mut tls, status, &headers, &body));
                tls.conn.send_close_notify();
                drop(tls.flush());
            });
        }
    });
    host
}

#[test]
fn https_is_never_left_for_plain_http() {
    let place = tempfile::tempdir().unwrap();
    certificate(place.path());
    let dir = place.path().display().to_string();
    let image = Image::new(32, &[1_000]);
    // Whoever listens there must hear nothing.
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let plain = open.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(0));
    let count = Arc::clone(&heard);
    std::thread::spawn(move || open.incoming().for_each(|_| *count.lock().unwrap() += 1));

    let target = image.beside("x");
    let layout = format!("oci:{}", target.display());
    let led_on = serve(place.path(), move |path| match path {
        "/v2/" => (200, Vec::new(), String::new()),
        _ => (307, vec![("Location", format!("http://{plain}{path}?signature=secret"))], String::new()),
    });
    let (code, text) = copy(&[&format!("docker://{led_on}/os:1"), &layout, "--cert-dir", &dir]);
    let expected = format!(
        "error: fetching the manifest of docker://{led_on}/os:1 failed: a redirect was not followed: it leads from \
         https to plain http (http://{plain}/v2/os/manifests/1)\n  see that the registry is not set up to lead \
         elsewhere\n"
    );
    assert_eq!((code, text), (5, expected));

    let uploads = serve(place.path(), move |path| match path {
        "/v2/" => (200, Vec::new(), String::new()),
        path if path.ends_with("/uploads/") => {
            (202, vec![("Location", format!("http://{plain}/upload?state=secret"))], String::new())
        }
        _ => (404, Vec::new(), String::new()),
    });
    let (code, text) = copy(&[&image.name(), &format!("docker://{uploads}/os:1"), "--cert-dir", &dir]);
    let told = format!("to {uploads}/os failed: it leads from https to plain http (http://{plain}/upload)\n");
    assert!(text.contains(&told), "{text}");
    assert_eq!(code, 5);

    let tokens = serve(place.path(), move |_| {
        let challenge = format!(r#"Bearer realm="http://{plain}/token",service="x""#);
        (401, vec![("WWW-Authenticate", challenge)], String::new())
    });
    let options = ["--cert-dir", &dir, "--creds", "me:pass"];
    let (code, text) =
        copy(&[&[image.name().as_str(), &format!("docker://{tokens}/os:1")], &options[..]].concat());
    let expected = format!(
        "error: reaching the registry {tokens} failed: its tokens are at http://{plain}/token: plain http, though the \
         registry itself speaks https\n  have the registry name an https realm: nosa sends no credentials in the \
         open\n"
    );
    assert_eq!((code, text), (5, expected));
    assert_eq!(*heard.lock().unwrap(), 0);
    assert!(!target.exists() && fs::read_dir(target.parent().unwrap()).unwrap().count() == 1);
}
