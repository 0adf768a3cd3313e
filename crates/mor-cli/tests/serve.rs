//! `mor serve` as a browser and a user meet it: real requests, real ports.

#![cfg(feature = "serve")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A page and a model in a fresh folder.
fn folders() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, content: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    write("page/index.html", "<!doctype html><title>page</title>");
    write("page/assets/engine-1234.wasm", "\0asm");
    write("tiny/config.json", "{}");
    write("tiny/model.safetensors", &"w".repeat(200_000));
    write("secret.txt", "secret");
    folder
}

fn serve(folder: &Path, port: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mor"));
    command
        .current_dir(folder)
        .args(["serve", "--dir", "page", "--model", "tiny", "--port", port]);
    command
}

/// A running server, stopped when dropped.
struct Server {
    process: Child,
    address: String,
    url: String,
}

impl Server {
    fn start(folder: &Path) -> Self {
        Self::run(serve(folder, "0").stderr(Stdio::null()))
    }

    fn run(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.as_mut().unwrap())
            .read_line(&mut url)
            .unwrap();
        let url = url.trim().to_owned();
        let address = url
            .strip_prefix("http://")
            .and_then(|rest| rest.split('/').next())
            .unwrap()
            .to_owned();
        Self {
            process,
            address,
            url,
        }
    }

    /// Sends one request; the head of the answer in lower case, and its body.
    fn request(&self, method: &str, path: &str, extra: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{extra}\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        (head.to_lowercase(), answer[end + 4..].to_vec())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The page keeps weights as long as their tag says that they are the same.
#[cfg(unix)]
#[test]
fn other_weights_of_one_size_and_date_have_another_tag() {
    let folder = folders();
    let server = Server::start(folder.path());
    let path = folder.path().join("tiny/model.safetensors");
    let date = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    let tag_of = |weights: &str| {
        fs::write(&path, weights).unwrap();
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(date)
            .unwrap();
        let (head, _) = server.request("HEAD", "/models/tiny/model.safetensors", "");
        let tag = head.lines().find(|line| line.starts_with("etag: "));
        tag.unwrap().to_owned()
    };
    let old = tag_of("old weights!");
    // Clocks of file systems tick in milliseconds.
    std::thread::sleep(std::time::Duration::from_millis(30));
    assert_ne!(old, tag_of("new weights!"));
}

#[test]
fn the_page_and_the_model_are_served_with_their_headers() {
    let folder = folders();
    let server = Server::start(folder.path());
    assert!(
        server.url.ends_with("/?model=models/tiny"),
        "{}",
        server.url
    );

    let (head, body) = server.request("GET", "/?model=models/tiny", "");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    for header in [
        "content-type: text/html; charset=utf-8",
        "cross-origin-opener-policy: same-origin",
        "cross-origin-embedder-policy: require-corp",
        "x-content-type-options: nosniff",
        "cache-control: no-cache",
    ] {
        assert!(head.contains(header), "{header} is not in {head}");
    }
    assert_eq!(body, b"<!doctype html><title>page</title>");

    let (head, body) = server.request("GET", "/assets/engine-1234.wasm", "");
    assert!(head.contains("content-type: application/wasm"), "{head}");
    assert!(head.contains("immutable"), "{head}");
    assert_eq!(body, b"\0asm");

    let (head, body) = server.request("GET", "/models/tiny/model.safetensors", "");
    assert!(head.contains("content-length: 200000"), "{head}");
    assert_eq!(body.len(), 200_000);

    let (head, body) = server.request("HEAD", "/models/tiny/model.safetensors", "");
    assert!(head.contains("content-length: 200000"), "{head}");
    assert!(body.is_empty());
}

#[test]
fn a_known_version_is_not_sent_again() {
    let folder = folders();
    let server = Server::start(folder.path());
    let path = "/models/tiny/model.safetensors";
    let (head, _) = server.request("GET", path, "");
    let tag = head.split("etag: ").nth(1).unwrap();
    let tag = tag.lines().next().unwrap().replacen("w/", "W/", 1);
    let (head, body) = server.request("GET", path, &format!("If-None-Match: {tag}\r\n"));
    assert!(head.starts_with("http/1.1 304"), "{head}");
    assert!(head.contains("cross-origin-embedder-policy"), "{head}");
    assert!(body.is_empty());
    let (head, _) = server.request("GET", path, "If-None-Match: \"other\"\r\n");
    assert!(head.starts_with("http/1.1 200"), "{head}");
}

#[test]
fn nothing_outside_the_two_folders_is_reachable() {
    let folder = folders();
    let server = Server::start(folder.path());
    for path in [
        "/nothing.js",
        "/assets",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/models/tiny/../../secret.txt",
        "/models/tiny/..%2f..%2fsecret.txt",
        "/models/other/config.json",
    ] {
        let (head, body) = server.request("GET", path, "");
        assert!(head.starts_with("http/1.1 404"), "{path}: {head}");
        assert!(!body.windows(6).any(|six| six == b"secret"), "{path}");
    }
    let (head, _) = server.request("POST", "/", "Content-Length: 0\r\n");
    assert!(head.starts_with("http/1.1 405"), "{head}");
}

#[test]
fn an_address_that_no_file_can_have_is_not_found_and_costs_little_log() {
    let folder = folders();
    let log = folder.path().join("log");
    let server = Server::run(serve(folder.path(), "0").stderr(fs::File::create(&log).unwrap()));
    for (path, status) in [
        (format!("/{}", "a".repeat(60_000)), "414"),
        (format!("/{}", "a/".repeat(8_000)), "414"),
        (format!("/{}", "a".repeat(300)), "404"),
        (format!("/models/tiny/{}", "%C3%A4".repeat(200)), "404"),
        (format!("/{}", "a/".repeat(3_000)), "404"),
        ("/assets/".to_owned(), "404"),
        ("/assets".to_owned(), "404"),
        ("/index.html/more".to_owned(), "404"),
        ("/index.html/".to_owned(), "404"),
        ("/a%00b".to_owned(), "404"),
        ("/%ff%fe".to_owned(), "404"),
        ("/%1b%5D0;title%07".to_owned(), "404"),
    ] {
        let (head, _) = server.request("GET", &path, "");
        let start = &path[..path.len().min(40)];
        assert!(
            head.starts_with(&format!("http/1.1 {status}")),
            "{start}: {head}"
        );
    }
    drop(server);
    let log = fs::read_to_string(log).unwrap();
    assert!(log.lines().all(|line| line.len() < 300), "{log}");
    assert!(log.lines().count() <= 12, "{log}");
    assert!(!log.contains('\u{1b}'), "{log:?}");
}

#[cfg(unix)]
#[test]
fn a_model_folder_may_have_any_name() {
    for (name, address) in [
        ("50%", "50%25"),
        ("50%25 off", "50%2525%20off"),
        ("what?#&=+", "what%3F%23%26%3D%2B"),
        ("a:b\\c", "a%3Ab%5Cc"),
        (".hidden", ".hidden"),
    ] {
        let folder = folders();
        fs::rename(folder.path().join("tiny"), folder.path().join(name)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mor"));
        command
            .current_dir(folder.path())
            .args(["serve", "--dir", "page", "--port", "0", "--model", name])
            .stderr(Stdio::null());
        let server = Server::run(&mut command);
        let query = format!("/?model=models/{address}");
        assert!(server.url.ends_with(&query), "{}", server.url);
        let (head, _) = server.request("GET", &query, "");
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let path = format!("/models/{address}/config.json");
        let (head, body) = server.request("GET", &path, "");
        assert!(head.starts_with("http/1.1 200"), "{path}: {head}");
        assert_eq!(body, b"{}");
    }
}

#[test]
fn the_bare_address_leads_to_the_model_that_is_served() {
    let folder = folders();
    let server = Server::start(folder.path());
    for (asked, given) in [
        ("/", "/?model=models/tiny"),
        ("/index.html?x=1", "/index.html?model=models/tiny&x=1"),
    ] {
        let (head, _) = server.request("GET", asked, "");
        assert!(head.starts_with("http/1.1 307"), "{head}");
        let location = format!("location: {given}");
        assert!(head.lines().any(|line| line == location), "{head}");
        let (head, _) = server.request("GET", given, "");
        assert!(head.starts_with("http/1.1 200"), "{head}");
    }
}

#[test]
fn hosts_have_names() {
    let folder = folders();
    let mut command = serve(folder.path(), "0");
    let server = Server::run(command.args(["--host", "localhost"]).stderr(Stdio::null()));
    let (head, _) = server.request("GET", "/models/tiny/config.json", "");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let mut command = serve(folder.path(), "0");
    let output = command.args(["--host", "no host"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("--host no host"), "{error}");
}

/// Runs a server that must refuse to start; its complaint.
fn refusal(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    text
}

#[test]
fn a_taken_port_is_one_line_that_names_the_option() {
    let folder = folders();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let text = refusal(&mut serve(folder.path(), &port));
    assert!(text.contains(&port) && text.contains("--port"), "{text}");
}

#[test]
fn a_missing_page_or_model_is_named() {
    let folder = folders();
    fs::remove_file(folder.path().join("tiny/config.json")).unwrap();
    let text = refusal(&mut serve(folder.path(), "0"));
    assert!(
        text.contains("config.json") && text.contains("--model"),
        "{text}"
    );
    fs::remove_dir_all(folder.path().join("page")).unwrap();
    let text = refusal(&mut serve(folder.path(), "0"));
    assert!(text.contains("cargo xtask web"), "{text}");
}
