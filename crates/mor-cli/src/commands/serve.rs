//! `mor serve`: the chat page and one model, over HTTP, for browsers on this machine.

mod address;
mod site;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

use super::Usage;
use site::Site;

/// The model the page asks for unless its address names another one.
const DEFAULT_MODEL: &str = "technical-10m";

/// Serve the chat page and a model to a browser on this machine.
///
/// The model runs in the browser; this server only hands out files. It listens on 127.0.0.1 until
/// Ctrl-C.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Folder of the built page (`cargo xtask web` builds it).
    #[arg(long, value_name = "DIR", default_value = "web/dist")]
    dir: PathBuf,
    /// Model folder, served under models/<name of the folder>/; the page opens with it.
    #[arg(long, value_name = "DIR", default_value = "models/technical-10m")]
    model: PathBuf,
    /// Port to listen on; 0 picks a free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Address or name to listen on. Browsers give threads and WebGPU to other machines over HTTPS only.
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    host: String,
    /// Open the page in the default browser.
    #[arg(long)]
    open: bool,
}

/// Serves until Ctrl-C.
///
/// # Errors
/// When the page or the model is missing, or the port is taken.
pub(crate) fn run(args: Args) -> Result<()> {
    require(
        &args.dir,
        "index.html",
        "build the page with `cargo xtask web`",
    )?;
    let inner = args.model.join("model");
    let advice = match inner.join("config.json").is_file() {
        // The folder of a training run.
        true => format!(
            "the model is in {}; name that with --model",
            inner.display()
        ),
        false => "name a model folder with --model".to_owned(),
    };
    require(&args.model, "config.json", &advice)?;
    let name = folder_name(&args.model)?;
    let listener = listen(&args.host, args.port)?;
    let mut url = format!("http://{}/", listener.local_addr()?);
    if name != DEFAULT_MODEL {
        url.push('?');
        url.push_str(&model_query(&name));
    }
    let site = Site::new(args.dir, name, args.model);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the server")?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        say!("{url}");
        note!("Serving until Ctrl-C.");
        if args.open {
            open_in_browser(&url);
        }
        tokio::select! {
            served = axum::serve(listener, site.router()) => {
                served.context("the server stopped")
            }
            // Downloads under way are cut short: whoever presses Ctrl-C wants the prompt back.
            signal = tokio::signal::ctrl_c() => signal.context("cannot wait for Ctrl-C"),
        }
    })
}

/// Fails with `advice` unless `folder` holds `file`.
fn require(folder: &Path, file: &str, advice: &str) -> Result<()> {
    let path = folder.join(file);
    if !path.is_file() {
        bail!("{} does not exist: {advice}", path.display());
    }
    Ok(())
}

/// The last component of a folder's path.
fn folder_name(folder: &Path) -> Result<String> {
    let full = folder
        .canonicalize()
        .with_context(|| format!("cannot read {}", folder.display()))?;
    let name = full.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| {
        anyhow!(
            "{}: the folder's name becomes part of an address, so it must be UTF-8 and not empty; rename the folder",
            full.display()
        )
    })
}

/// The part of an address that tells the page which model to load; the page takes what it decodes literally.
fn model_query(name: &str) -> String {
    format!("model=models/{}", address::encode(name))
}

/// Listens on the first address of `host`, a number or a name, that can be had.
fn listen(host: &str, port: u16) -> Result<TcpListener> {
    // As addresses write it, version 6 has brackets.
    let inside = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let addresses = (inside.unwrap_or(host), port).to_socket_addrs();
    let addresses: Vec<SocketAddr> = match addresses {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            return Err(Usage(format!(
                "--host {host}: {error}; give localhost, or an address of this machine"
            ))
            .into());
        }
    };
    let listener = TcpListener::bind(addresses.as_slice()).map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => anyhow!(
            "port {port} is in use: choose another with --port, or --port 0 for any free one"
        ),
        ErrorKind::PermissionDenied => anyhow!(
            "port {port} is not allowed to this user: choose one above 1023 with --port"
        ),
        ErrorKind::AddrNotAvailable => anyhow!(
            "{host} is not an address of this machine: choose one that is with --host, 0.0.0.0 for all"
        ),
        _ => anyhow!("cannot listen on {host}, port {port}: {error}"),
    })?;
    // The asynchronous runtime requires it.
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Asks the desktop to open `url`; a desktop that cannot is no reason to stop serving.
fn open_in_browser(url: &str) {
    let mut command = if cfg!(target_os = "macos") {
        Command::new("open")
    } else if cfg!(windows) {
        let mut command = Command::new("cmd");
        // The empty argument is the title of the window.
        command.args(["/C", "start", ""]);
        command
    } else {
        Command::new("xdg-open")
    };
    let started = command
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if started.is_err() {
        note!("No browser could be opened here: open the address above yourself.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_one_line_with_advice() {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let error = listen("127.0.0.1", port).unwrap_err().to_string();
        assert!(error.contains("is in use") && error.contains("--port"));
        assert!(!error.contains('\n'));
    }

    #[test]
    fn missing_parts_are_named() {
        let error = require(Path::new("nowhere"), "index.html", "build it")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("index.html does not exist: build it"),
            "{error}"
        );
    }

    #[test]
    fn hosts_have_names_too() {
        for host in ["localhost", "127.0.0.1", "0.0.0.0"] {
            assert!(listen(host, 0).is_ok(), "{host}");
        }
        let error = listen("not a host", 0).unwrap_err();
        assert!(error.is::<Usage>(), "{error}");
        assert!(error.to_string().contains("not a host"), "{error}");
    }

    #[test]
    fn model_names_fit_into_an_address() {
        assert_eq!(folder_name(Path::new(".")).unwrap(), "mor-cli");
        assert!(folder_name(Path::new("no such folder")).is_err());
        assert!(folder_name(Path::new("/")).is_err());
        assert_eq!(model_query("50% a&b"), "model=models/50%25%20a%26b");
    }
}
