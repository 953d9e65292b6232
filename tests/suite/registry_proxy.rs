//! A proxy before a registry that does to requests and answers what a test wants: HTTP/1.1, one request a
//! connection.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request's head.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// `GET`, `PATCH`, …
    pub(crate) method: String,
    /// The path with its query.
    pub(crate) path: String,
    /// The headers, names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    length: u64,
}

/// What is done with it.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// It goes on to the registry, and the answer back.
    Pass,
    /// This answer: status, headers, body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// Both connections are cut after so many bytes of the request's body.
    CutRequest(u64),
    /// The registry gets another last byte.
    SpoilRequest,
    /// The registry gets so many bytes of the upload, then the connection is cut. It can be gone on with.
    KeepAndCut(u64),
    /// The connection is cut after so many bytes of the answer's body.
    CutAnswer(u64),
    /// The answer's last byte is another one.
    Spoil,
    /// No answer; the connection stays open until the other side closes it.
    Silence,
}

/// A proxy; it serves until the test's process ends.
pub(crate) struct Proxy {
    /// Its host and port.
    pub(crate) host: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

type Rule = Box<dyn FnMut(&Request) -> Action + Send>;

struct Inner {
    upstream: String,
    rule: Mutex<Rule>,
    seen: Arc<Mutex<Vec<Request>>>,
    /// Uploads that were cut: where they go on, and how many bytes the registry has.
    kept: Mutex<BTreeMap<String, (String, u64)>>,
}

impl Proxy {
    /// Starts one before `upstream`, `HOST:PORT`.
    pub(crate) fn start(upstream: &str, rule: impl FnMut(&Request) -> Action + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let inner = Arc::new(Inner {
            upstream: upstream.to_owned(),
            rule: Mutex::new(Box::new(rule)),
            seen: Arc::clone(&seen),
            kept: Mutex::default(),
        });
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let inner = Arc::clone(&inner);
                // One that hangs up early, or speaks TLS to find out, is no concern of the test's.
                std::thread::spawn(move || drop(inner.serve(stream.unwrap())));
            }
        });
        Self { host, seen }
    }

    /// An image's reference through the proxy.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.host)
    }

    /// The requests so far whose method and path have this in them.
    pub(crate) fn seen(&self, words: &str) -> Vec<Request> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .filter(|request| format!("{} {}", request.method, request.path).contains(words))
            .cloned()
            .collect()
    }
}

impl Inner {
    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(client.try_clone()?);
        let Some(request) = head(&mut reader)? else {
            return answer(&mut client, 400, &[], "this is http");
        };
        self.seen.lock().unwrap().push(request.clone());
        let kept = self.kept.lock().unwrap().get(&request.path).cloned();
        if let (Some((location, length)), "GET") = (kept, request.method.as_str()) {
            let headers = [("Location", location), ("Range", format!("0-{}", length - 1))];
            return answer(&mut client, 204, &headers, "");
        }
        let action = (self.rule.lock().unwrap())(&request);
        match action {
            Action::Answer(status, headers, body) => {
                std::io::copy(&mut (&mut reader).take(request.length), &mut std::io::sink())?;
                answer(&mut client, status, &headers, &body)
            }
            Action::CutRequest(bytes) => {
                let upstream = self.forward(&request, request.length, &mut (&mut reader).take(bytes))?;
                upstream.into_inner().shutdown(Shutdown::Both)?;
                client.shutdown(Shutdown::Both)
            }
            Action::SpoilRequest => {
                let mut body = vec![0; usize::try_from(request.length).unwrap()];
                reader.read_exact(&mut body)?;
                *body.last_mut().unwrap() ^= 1;
                let upstream = self.forward(&request, request.length, &mut body.as_slice())?;
                relay(upstream, &mut client, &Action::Pass)
            }
            Action::Silence => {
                std::io::copy(&mut reader, &mut std::io::sink())?;
                Ok(())
            }
            Action::KeepAndCut(bytes) => {
                let mut upstream = self.forward(&request, bytes, &mut (&mut reader).take(bytes))?;
                let (_, headers, _) = answer_head(&mut upstream)?;
                let location = headers.iter().find(|line| line.to_lowercase().starts_with("location: "));
                let location = location.unwrap()["location: ".len()..].trim().to_owned();
                self.kept.lock().unwrap().insert(request.path, (location, bytes));
                client.shutdown(Shutdown::Both)
            }
            Action::Pass | Action::CutAnswer(_) | Action::Spoil => {
                let upstream =
                    self.forward(&request, request.length, &mut (&mut reader).take(request.length))?;
                relay(upstream, &mut client, &action)
            }
        }
    }

    /// Sends a request on with this body, and says that it has so many bytes.
    fn forward(
        &self,
        request: &Request,
        length: u64,
        body: &mut impl Read,
    ) -> std::io::Result<BufReader<TcpStream>> {
        let mut upstream = TcpStream::connect(&self.upstream)?;
        let mut text = format!("{} {} HTTP/1.1\r\n", request.method, request.path);
        for (name, value) in &request.headers {
            if !["connection", "content-length", "content-range"].contains(&name.as_str()) {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        text.push_str(&format!("content-length: {length}\r\nconnection: close\r\n\r\n"));
        upstream.write_all(text.as_bytes())?;
        std::io::copy(body, &mut upstream)?;
        Ok(BufReader::new(upstream))
    }
}

/// Brings an answer back, spoilt as `action` says.
fn relay(mut upstream: BufReader<TcpStream>, client: &mut TcpStream, action: &Action) -> std::io::Result<()> {
    let (status, headers, length) = answer_head(&mut upstream)?;
    client.write_all(status.as_bytes())?;
    for line in headers.iter().filter(|line| !line.to_lowercase().starts_with("connection:")) {
        client.write_all(line.as_bytes())?;
    }
    client.write_all(b"Connection: close\r\n\r\n")?;
    match action {
        Action::CutAnswer(bytes) if *bytes < length => {
            std::io::copy(&mut upstream.take(*bytes), client)?;
        }
        Action::Spoil if length > 0 => {
            std::io::copy(&mut (&mut upstream).take(length - 1), client)?;
            let mut last = [0];
            upstream.read_exact(&mut last)?;
            client.write_all(&[!last[0]])?;
        }
        _ => {
            std::io::copy(&mut upstream, client)?;
        }
    }
    client.shutdown(Shutdown::Both)
}

fn head(reader: &mut impl std::io::BufRead) -> std::io::Result<Option<Request>> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    let Ok(line) = String::from_utf8(line) else { return Ok(None) };
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    Ok(Some(Request { method, path, headers, length }))
}

/// An answer's first line, its headers and the length of its body.
fn answer_head(upstream: &mut BufReader<TcpStream>) -> std::io::Result<(String, Vec<String>, u64)> {
    let mut status = String::new();
    upstream.read_line(&mut status)?;
    let (mut headers, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        upstream.read_line(&mut line)?;
        if line.trim().is_empty() {
            return Ok((status, headers, length));
        }
        if let Some(bytes) = line.to_lowercase().strip_prefix("content-length: ") {
            length = bytes.trim().parse().unwrap();
        }
        headers.push(line);
    }
}

/// Writes an answer of the proxy's own.
pub(crate) fn answer(
    client: &mut impl std::io::Write,
    status: u16,
    headers: &[(&str, String)],
    body: &str,
) -> std::io::Result<()> {
    let mut text = format!("HTTP/1.1 {status} x\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if status != 204 {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str(&format!("\r\n{body}"));
    client.write_all(text.as_bytes())?;
    client.flush()
}
