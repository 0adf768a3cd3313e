//! Which file answers which address, and with which headers.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

/// Bytes read from a file at a time.
const CHUNK: usize = 64 * 1024;

/// Sent with every answer. The first two isolate the page, which is what gives it
/// `SharedArrayBuffer`; the rest keep other sites and guessed types out.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-embedder-policy"),
        "require-corp",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    // The page brings its own, stricter policy; this directive works as a header only.
    (header::CONTENT_SECURITY_POLICY, "frame-ancestors 'none'"),
];

/// The page's folder, and a model's folder under `models/<name>/`.
#[derive(Debug)]
pub(super) struct Site {
    page: PathBuf,
    model_name: String,
    model: PathBuf,
}

impl Site {
    pub(super) fn new(page: PathBuf, model_name: String, model: PathBuf) -> Self {
        Self {
            page,
            model_name,
            model,
        }
    }

    /// Answers GET and HEAD of any address, and refuses other methods.
    pub(super) fn router(self) -> Router {
        Router::new().fallback_service(get(answer).with_state(Arc::new(self)))
    }

    /// The file that a URL's path names, if the path is well formed.
    fn file(&self, url_path: &str) -> Option<PathBuf> {
        let segments = segments(url_path)?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let (folder, rest) = match segments.as_slice() {
            ["models", name, rest @ ..] if *name == self.model_name => (&self.model, rest),
            all => (&self.page, all),
        };
        let mut path = folder.clone();
        path.extend(rest);
        if url_path.ends_with('/') {
            path.push("index.html");
        }
        Some(path)
    }
}

/// Splits a URL's path into decoded segments. `None` for whatever could leave the folder or name a
/// hidden file: the check is on the decoded text, and every segment is one plain file name.
fn segments(url_path: &str) -> Option<Vec<String>> {
    url_path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| {
            let name = percent_decode(segment)?;
            let plain = !name.starts_with('.')
                && !name.contains(|c: char| matches!(c, '/' | '\\' | ':') || c.is_control());
            plain.then_some(name)
        })
        .collect()
}

/// Undoes `%41`; `None` when an escape is cut short or the bytes are not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else {
            return None;
        };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

async fn answer(State(site): State<Arc<Site>>, uri: Uri, request: HeaderMap) -> Response {
    let mut response = match site.file(uri.path()) {
        Some(path) => send(&path, uri.path(), &request).await,
        None => plain(StatusCode::NOT_FOUND),
    };
    for (name, value) in HEADERS {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn send(path: &Path, url_path: &str, request: &HeaderMap) -> Response {
    match open(path).await {
        Ok((file, length, tag)) => {
            let mut headers = HeaderMap::new();
            headers.insert(
                header::CACHE_CONTROL,
                HeaderValue::from_static(caching(url_path)),
            );
            if let Ok(tag) = HeaderValue::from_str(&tag) {
                headers.insert(header::ETAG, tag);
            }
            if is_known(request, &tag) {
                return (StatusCode::NOT_MODIFIED, headers).into_response();
            }
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static(media_type(path)),
            );
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            // A file that grows meanwhile must not exceed the length announced.
            let body = Body::from_stream(ReaderStream::with_capacity(file.take(length), CHUNK));
            (headers, body).into_response()
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            plain(StatusCode::NOT_FOUND)
        }
        Err(error) => {
            note!("cannot read {}: {error}", path.display());
            plain(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// The file, its length in bytes and its entity tag. A folder counts as not found.
async fn open(path: &Path) -> std::io::Result<(tokio::fs::File, u64, String)> {
    let file = tokio::fs::File::open(path).await?;
    let data = file.metadata().await?;
    if !data.is_file() {
        return Err(ErrorKind::NotFound.into());
    }
    let written = data
        .modified()?
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let tag = format!("W/\"{:x}-{:x}\"", written.as_nanos(), data.len());
    Ok((file, data.len(), tag))
}

/// Whether the browser's cache already has the version that `tag` names.
fn is_known(request: &HeaderMap, tag: &str) -> bool {
    request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim() == tag)
}

fn plain(status: StatusCode) -> Response {
    let text = status.canonical_reason().unwrap_or("Error");
    (status, [(header::CACHE_CONTROL, "no-store")], text).into_response()
}

/// Vite puts a hash of the content into the names under assets/; everything else may change under
/// its name, so the browser asks whether its copy is current.
fn caching(url_path: &str) -> &'static str {
    if url_path.starts_with("/assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    }
}

/// The media type of a file by its extension. `application/wasm` is what lets a browser compile
/// while it downloads.
fn media_type(path: &Path) -> &'static str {
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default()
        .to_ascii_lowercase();
    match extension.as_str() {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" | "wgsl" => "text/plain; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        Site::new("page".into(), "tiny".to_owned(), "elsewhere/tiny".into())
    }

    #[test]
    fn addresses_map_to_files() {
        let file = |url| site().file(url).unwrap();
        assert_eq!(file("/"), Path::new("page/index.html"));
        assert_eq!(file("/assets/a-1.js"), Path::new("page/assets/a-1.js"));
        assert_eq!(file("/a%20b.txt"), Path::new("page/a b.txt"));
        assert_eq!(
            file("/models/tiny/config.json"),
            Path::new("elsewhere/tiny/config.json")
        );
        // Another model's name falls through to the page, which does not have it.
        assert_eq!(file("/models/big/x"), Path::new("page/models/big/x"));
    }

    #[test]
    fn no_address_leaves_the_folder() {
        for url in [
            "/../secret",
            "/%2e%2e/secret",
            "/..%2fsecret",
            "/%2E%2E%2Fsecret",
            "/a/../../secret",
            "/models/tiny/../../secret",
            "/models/tiny/%2e%2e/secret",
            "/..%5csecret",
            "/C:/secret",
            "/a%00b",
            "/.git/config",
            "/%",
            "/%4",
            "/%zz",
            "/%ff",
        ] {
            assert_eq!(site().file(url), None, "{url}");
        }
        // Repeated slashes never make the path absolute.
        assert_eq!(
            site().file("//etc/passwd").unwrap(),
            Path::new("page/etc/passwd")
        );
    }

    #[test]
    fn media_types_and_caching() {
        assert_eq!(media_type(Path::new("m.wasm")), "application/wasm");
        assert_eq!(
            media_type(Path::new("M.JS")),
            "text/javascript; charset=utf-8"
        );
        assert_eq!(
            media_type(Path::new("model.safetensors")),
            "application/octet-stream"
        );
        assert_eq!(caching("/index.html"), "no-cache");
        assert_eq!(caching("/models/assets/x"), "no-cache");
        assert!(caching("/assets/i-8c.js").contains("immutable"));
    }
}
