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

use super::address::decode;

/// Bytes read from a file at a time.
const CHUNK: usize = 64 * 1024;
/// Longest path of an address that is looked up, in bytes: no system has longer ones.
const LONGEST_PATH: usize = 8 * 1024;
/// Characters of a path that a line of the log shows.
const LONGEST_LOGGED: usize = 200;

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
        let segments = url_path.split('/').filter(|segment| !segment.is_empty());
        let segments: Option<Vec<String>> = segments.map(decode).collect();
        let segments = segments?;
        // A model's name is compared and never used as a path, so it may be any.
        let (folder, rest) = match segments.as_slice() {
            [models, name, rest @ ..] if models == "models" && *name == self.model_name => {
                (&self.model, rest)
            }
            all => (&self.page, all),
        };
        if !rest.iter().all(|name| is_plain(name)) {
            return None;
        }
        let mut path = folder.clone();
        path.extend(rest);
        if url_path.ends_with('/') {
            path.push("index.html");
        }
        Some(path)
    }

    /// Where a browser is sent that asks for the page without naming a model: to the model that is served.
    fn redirect(&self, uri: &Uri) -> Option<String> {
        let page = matches!(uri.path(), "/" | "/index.html");
        let query = uri.query().unwrap_or_default();
        let names = |part: &str| part == "model" || part.starts_with("model=");
        if !page || self.model_name == super::DEFAULT_MODEL || query.split('&').any(names) {
            return None;
        }
        let model = super::model_query(&self.model_name);
        let others = match query {
            "" => String::new(),
            query => format!("&{query}"),
        };
        Some(format!("{}?{model}{others}", uri.path()))
    }
}

/// Whether a decoded segment of an address is one plain file name: nothing that could leave the folder, and no hidden
/// file.
fn is_plain(name: &str) -> bool {
    !name.starts_with('.')
        && !name.contains(|c: char| matches!(c, '/' | '\\' | ':') || c.is_control())
}

async fn answer(State(site): State<Arc<Site>>, uri: Uri, request: HeaderMap) -> Response {
    let mut response = if uri.path().len() > LONGEST_PATH {
        plain(StatusCode::URI_TOO_LONG)
    } else if let Some(to) = site.redirect(&uri) {
        redirect(&to)
    } else {
        match site.file(uri.path()) {
            Some(path) => send(&path, uri.path(), &request).await,
            None => plain(StatusCode::NOT_FOUND),
        }
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
        Err(error) if is_no_file(&error) => plain(StatusCode::NOT_FOUND),
        Err(error) => {
            // Whoever asks may ask often, for any name.
            let path: String = path
                .display()
                .to_string()
                .chars()
                .take(LONGEST_LOGGED)
                .collect();
            note!("cannot read {}: {error}", path.replace('\n', " "));
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
    let (written, length) = (written.as_nanos(), data.len());
    let tag = format!("W/\"{written:x}-{length:x}{}\"", identity(&data));
    Ok((file, length, tag))
}

/// What else tells a file from the next of its name: reproducible builds and archives give all files one date, and a
/// retrained model has the length of the one before.
fn identity(data: &std::fs::Metadata) -> String {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        // The time of the last change of any kind, which nobody sets.
        format!(
            "-{:x}-{:x}.{:x}",
            data.ino(),
            data.ctime(),
            data.ctime_nsec()
        )
    }
    #[cfg(not(unix))]
    {
        let _ = data;
        String::new()
    }
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

/// Whether it says that there is no such file, or can be none of such a name.
fn is_no_file(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::InvalidFilename
            | ErrorKind::InvalidInput
    )
}

/// For now: another model may be served here tomorrow.
fn redirect(to: &str) -> Response {
    match HeaderValue::from_str(to) {
        Ok(to) => {
            let headers = [
                (header::LOCATION, to),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            ];
            (StatusCode::TEMPORARY_REDIRECT, headers).into_response()
        }
        Err(_) => plain(StatusCode::BAD_REQUEST),
    }
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
            "/models/tiny/a%00b",
            "/models/tiny/.git/config",
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
    fn a_model_may_have_any_name() {
        for (name, url) in [
            ("50%", "/models/50%25/config.json"),
            ("a b?c#d", "/models/a%20b%3Fc%23d/config.json"),
            ("c:\\x\ty", "/models/c:%5Cx%09y/config.json"),
            (".hidden", "/models/.hidden/config.json"),
        ] {
            let site = Site::new("page".into(), name.to_owned(), "elsewhere/it".into());
            let file = site.file(url);
            assert_eq!(file.as_deref(), Some(Path::new("elsewhere/it/config.json")));
        }
    }

    #[test]
    fn the_bare_page_leads_to_the_model_that_is_served() {
        let to = |site: Site, uri: &str| site.redirect(&uri.parse().expect("an address"));
        assert_eq!(to(site(), "/").as_deref(), Some("/?model=models/tiny"));
        let more = to(site(), "/index.html?depth=1");
        assert_eq!(
            more.as_deref(),
            Some("/index.html?model=models/tiny&depth=1")
        );
        for uri in ["/?model=big", "/?a&model=", "/assets/x.js", "/models/tiny/"] {
            assert_eq!(to(site(), uri), None, "{uri}");
        }
        let default = Site::new(
            "page".into(),
            super::super::DEFAULT_MODEL.into(),
            "m".into(),
        );
        assert_eq!(to(default, "/"), None);
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
