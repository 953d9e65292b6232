//! A small web server over a directory: GET with ranges, HEAD, PUT; and, when it is told to, one that breaks
//! off in the middle of every large answer.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How much of an answer a server sends that breaks off.
const PART: usize = 400_000;

/// A server on a port of its own; it serves until the test's process ends.
pub(crate) struct Server {
    /// Its address.
    pub(crate) url: String,
    /// Whether answers break off after 400 kB.
    pub(crate) breaks: Arc<AtomicBool>,
    /// How many answers began in the middle of a file.
    pub(crate) resumed: Arc<AtomicUsize>,
}

pub(crate) fn serve(dir: PathBuf) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server =
        Server { url, breaks: Arc::new(AtomicBool::new(false)), resumed: Arc::new(AtomicUsize::new(0)) };
    let (breaks, resumed) = (Arc::clone(&server.breaks), Arc::clone(&server.resumed));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (dir, breaks, resumed) = (dir.clone(), Arc::clone(&breaks), Arc::clone(&resumed));
            std::thread::spawn(move || drop(answer(stream.unwrap(), &dir, &breaks, &resumed)));
        }
    });
    server
}

fn answer(
    mut stream: TcpStream,
    dir: &std::path::Path,
    breaks: &AtomicBool,
    resumed: &AtomicUsize,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let (mut from, mut length, mut waits) = (0, 0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap();
        }
        if let Some(count) = line.strip_prefix("content-length: ") {
            length = count.parse().unwrap();
        }
        waits |= line.starts_with("expect: 100-continue");
    }
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let file = dir.join(path.trim_start_matches('/').replace("%2B", "+").replace("%7E", "~"));
    if method == "PUT" {
        if waits {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes)?;
        fs::create_dir_all(file.parent().unwrap())?;
        fs::write(file, bytes)?;
        return stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let Ok(bytes) = fs::read(file) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    if from >= bytes.len() && from > 0 {
        return stream.write_all(b"HTTP/1.1 416 Range\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let state = if from > 0 { "206 Partial Content" } else { "200 OK" };
    resumed.fetch_add(usize::from(from > 0), Ordering::Relaxed);
    let body = &bytes[from..];
    let range = format!("Content-Range: bytes {from}-{}/{}\r\n", bytes.len().max(1) - 1, bytes.len());
    let range = if from > 0 { range } else { String::new() };
    write!(stream, "HTTP/1.1 {state}\r\nContent-Length: {}\r\n{range}Connection: close\r\n\r\n", body.len())?;
    if breaks.load(Ordering::Relaxed) && body.len() > PART {
        return stream.write_all(&body[..PART]);
    }
    stream.write_all(body)
}
