//! The programs this project calls: finding them, running them, and saying in one line what is
//! missing and how to get it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

/// The target of the browser module.
pub(crate) const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// The oldest Node.js that the page's build tools accept.
const NODE_MINIMUM: (u32, u32) = (20, 19);

/// The folder of the workspace's Cargo.toml.
pub(crate) fn root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest
        .ancestors()
        .nth(2)
        .map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// The folder of the page: `web/`.
pub(crate) fn web_dir() -> PathBuf {
    root().join("web")
}

/// `cargo`, in the workspace: the very one that runs this task.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// `npm`, in the page's folder.
pub(crate) fn npm() -> Command {
    let mut command = Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" });
    command.current_dir(web_dir());
    command
}

/// Runs a command with its output passed through; an exit code other than 0 is an error that names
/// the command.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = describe(command);
    eprintln!("$ {line}");
    let status = command
        .status()
        .with_context(|| format!("cannot start `{line}`"))?;
    if status.success() {
        return Ok(());
    }
    bail!("`{line}` {}", ending(status));
}

/// A command that runs beside others; it is stopped when dropped before its end.
pub(crate) struct Background {
    line: String,
    child: Child,
}

impl Background {
    /// Starts a command, whose output should be short: it mixes with that of others.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let line = describe(command);
        eprintln!("$ {line} &");
        let child = command
            .spawn()
            .with_context(|| format!("cannot start `{line}`"))?;
        Ok(Self { line, child })
    }

    /// Starts a command that writes into the file `log`.
    pub(crate) fn start_logged(command: &mut Command, log: &Path) -> Result<Self> {
        let file =
            fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let output = file.try_clone()?;
        Self::start(command.stdin(Stdio::null()).stdout(output).stderr(file))
    }

    /// Waits for the end; an exit code other than 0 is an error that names the command.
    pub(crate) fn finish(mut self) -> Result<()> {
        let status = self.child.wait()?;
        if !status.success() {
            bail!("`{}` {}", self.line, ending(status));
        }
        Ok(())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Both fail when the command has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command prints, with the white space around it removed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` {}", ending(output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn ending(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("failed with exit code {code}"),
        None => "was stopped by a signal".to_owned(),
    }
}

/// The command as one would type it at the root: the program by its bare name, paths from there.
fn describe(command: &Command) -> String {
    let root = root();
    let program = Path::new(command.get_program());
    let name = program.file_stem().unwrap_or(program.as_os_str());
    std::iter::once(name)
        .chain(command.get_args().map(|argument| {
            let path = Path::new(argument);
            path.strip_prefix(&root).unwrap_or(path).as_os_str()
        }))
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The folder that Cargo builds into, wherever configuration or environment put it.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let text = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).context("`cargo metadata` printed no JSON")?;
    metadata["target_directory"]
        .as_str()
        .map(PathBuf::from)
        .context("`cargo metadata` named no target directory")
}

/// The path of a program that Cargo built, given its profile's folder (`debug`, `release`).
pub(crate) fn built_program(profile_dir: &str, name: &str) -> Result<PathBuf> {
    Ok(target_dir()?
        .join(profile_dir)
        .join(format!("{name}{}", env::consts::EXE_SUFFIX)))
}

/// The first of `names` that the search path has.
fn on_path(names: &[&str]) -> Option<PathBuf> {
    let folders: Vec<_> = env::split_paths(&env::var_os("PATH")?).collect();
    names.iter().find_map(|name| {
        folders
            .iter()
            .map(|folder| folder.join(format!("{name}{}", env::consts::EXE_SUFFIX)))
            .find(|path| path.is_file())
    })
}

/// Makes sure the standard library of the browser's target is there, through rustup if need be.
pub(crate) fn ensure_wasm_target() -> Result<()> {
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc
        .current_dir(root())
        .args(["--print", "target-libdir", "--target", WASM_TARGET]);
    if Path::new(&output(&mut rustc)?).is_dir() {
        return Ok(());
    }
    if on_path(&["rustup"]).is_none() {
        bail!(
            "the Rust target {WASM_TARGET} is missing and there is no rustup to add it: \
             install Rust from https://rustup.rs, or your distribution's package of that target"
        );
    }
    run(Command::new("rustup")
        .current_dir(root())
        .args(["target", "add", WASM_TARGET]))
}

/// Makes sure Node.js is recent enough and the page's packages are those of the lock file.
pub(crate) fn ensure_npm_packages() -> Result<()> {
    ensure_node()?;
    let web = web_dir();
    let lock = web.join("package-lock.json");
    // npm writes this file last, so it is there and newer only after a complete install.
    let installed = web.join("node_modules/.package-lock.json");
    if is_newer(&installed, &lock) {
        return Ok(());
    }
    run(npm().args(["ci", "--no-audit", "--no-fund"]))
}

fn ensure_node() -> Result<()> {
    let (major, minor) = NODE_MINIMUM;
    let advice = format!(
        "install Node.js {major}.{minor} or newer from https://nodejs.org or with your package manager"
    );
    let Some(node) = on_path(&["node"]) else {
        bail!("Node.js is missing: {advice}");
    };
    let version = output(Command::new(node).arg("--version"))?;
    match parse_version(&version) {
        Some(found) if found >= NODE_MINIMUM => {}
        _ => bail!("Node.js is {version}, which is too old: {advice}"),
    }
    let npm = if cfg!(windows) {
        // npm is a script there, and `on_path` looks for programs.
        Command::new("npm.cmd")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_ok()
    } else {
        on_path(&["npm"]).is_some()
    };
    if !npm {
        bail!(
            "npm is missing: it comes with Node.js from https://nodejs.org, on Debian as the package npm"
        );
    }
    Ok(())
}

/// Major and minor of `v20.19.1`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim().trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The browser for the tests of the page: `$CHROMIUM`, or one of the usual places.
pub(crate) fn chromium() -> Result<PathBuf> {
    const PROGRAMS: [&str; 5] = [
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
        "chrome",
    ];
    const PLACES: [&str; 3] = [
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
        r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    ];
    if let Some(chosen) = env::var_os("CHROMIUM").filter(|chosen| !chosen.is_empty()) {
        let path = PathBuf::from(chosen);
        if !path.is_file() {
            bail!("CHROMIUM is {}, which is not a file", path.display());
        }
        return Ok(path);
    }
    on_path(&PROGRAMS)
        .or_else(|| {
            PLACES
                .map(PathBuf::from)
                .into_iter()
                .find(|path| path.is_file())
        })
        .context(
            "no Chromium found: install it (on Debian: apt-get install chromium) or set CHROMIUM \
             to its path; `cargo xtask test --fast` does without",
        )
}

/// Whether cargo-nextest, the faster test runner, is installed.
pub(crate) fn has_nextest() -> bool {
    on_path(&["cargo-nextest"]).is_some()
}

/// Features that the checks switch on besides the default ones: training over MPI, where this machine can build it.
///
/// # Errors
/// In CI, where everything must be checked, when it cannot.
pub(crate) fn features() -> Result<&'static [&'static str]> {
    let mpi = on_path(&["mpicc"]).is_some() && on_path(&["mpirun"]).is_some();
    if mpi && has_libclang() {
        return Ok(&["--features", "mor-cli/mpi"]);
    }
    let needed = "openmpi-bin libopenmpi-dev libclang-dev";
    if std::env::var_os("CI").is_some() {
        bail!("training over MPI cannot be checked here: on Debian, apt-get install {needed}");
    }
    eprintln!("training over MPI is not checked: on Debian, apt-get install {needed}");
    Ok(&[])
}

/// Whether the library that reads MPI's headers is installed.
fn has_libclang() -> bool {
    let folders = std::env::var_os("LIBCLANG_PATH")
        .into_iter()
        .map(PathBuf::from);
    let system = std::fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .flatten();
    let llvm = system.map(|entry| entry.path().join("lib"));
    let multiarch = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let places = folders
        .chain(llvm)
        .chain([multiarch.into(), "/usr/lib64".into()]);
    places
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flat_map(|entries| entries.flatten())
        .any(|entry| is_libclang(&entry.file_name().to_string_lossy()))
}

/// Whether a file is the library that reads C headers. LLVM has others whose names begin alike.
fn is_libclang(name: &str) -> bool {
    let version = name.strip_prefix("libclang").unwrap_or_default();
    version.starts_with(['.', '-']) && !version.starts_with("-cpp")
}

/// Whether `made` exists and was written no earlier than `source`.
fn is_newer(made: &Path, source: &Path) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|data| data.modified());
    match (time(made), time(source)) {
        (Ok(made), Ok(source)) => made >= source,
        _ => false,
    }
}

/// A page tool that npm installed, as a command that Node runs: no shell wrapper, so that it works
/// alike on every system.
pub(crate) fn node_script(script: &str) -> Result<Command> {
    let path = web_dir().join("node_modules").join(script);
    if !path.is_file() {
        bail!("{} is missing: run `npm ci` in web/", path.display());
    }
    let mut command = Command::new("node");
    command.current_dir(web_dir()).arg(path);
    Ok(command)
}

/// Environment variables for the tests of the page: the browser and the `mor` under test.
pub(crate) fn page_test_env(mor: &Path) -> Result<Vec<(&'static OsStr, OsString)>> {
    Ok(vec![
        (OsStr::new("CHROMIUM"), chromium()?.into_os_string()),
        (OsStr::new("MOR"), mor.as_os_str().to_owned()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_node() {
        assert_eq!(parse_version("v20.19.1"), Some((20, 19)));
        assert_eq!(parse_version("v9.0.0\n"), Some((9, 0)));
        assert!(parse_version("v9.0.0") < Some(NODE_MINIMUM));
        assert_eq!(parse_version("node"), None);
    }

    #[test]
    fn commands_read_as_typed() {
        let mut command = Command::new("/usr/local/bin/cargo");
        command.args(["build", "-p", "mor-web"]);
        assert_eq!(describe(&command), "cargo build -p mor-web");
        let mut command = Command::new("node");
        command.arg(root().join("web/a.js")).arg("-O3");
        let shown = Path::new("web").join("a.js");
        assert_eq!(describe(&command), format!("node {} -O3", shown.display()));
    }

    #[test]
    fn failures_name_the_command_and_its_exit_code() {
        let mut command = cargo();
        command.arg("no-such-subcommand").stderr(Stdio::null());
        let error = run(&mut command).unwrap_err().to_string();
        assert!(
            error.starts_with("`cargo no-such-subcommand` failed with exit code"),
            "{error}"
        );
        let error = run(&mut Command::new("no-such-program-here"))
            .unwrap_err()
            .to_string();
        assert_eq!(error, "cannot start `no-such-program-here`");
    }

    #[test]
    fn work_in_the_background_reports_its_failure() {
        let start = |argument| {
            let mut command = cargo();
            command.arg(argument).stdout(Stdio::null());
            Background::start(command.stderr(Stdio::null())).unwrap()
        };
        assert!(start("--version").finish().is_ok());
        let error = start("no-such-subcommand").finish().unwrap_err();
        assert!(error.to_string().contains("failed with exit code"));
    }

    #[test]
    fn the_root_is_the_workspace() {
        assert!(root().join("rust-toolchain.toml").is_file());
    }

    #[test]
    fn the_library_that_reads_headers_is_told_from_others() {
        for name in [
            "libclang.so",
            "libclang.so.1",
            "libclang-14.so.1",
            "libclang.dylib",
        ] {
            assert!(is_libclang(name), "{name}");
        }
        for name in [
            "libclang-cpp.so.14",
            "libclang_rt.asan.a",
            "libLLVM-14.so",
            "libclangAST.a",
        ] {
            assert!(!is_libclang(name), "{name}");
        }
    }

    #[test]
    fn a_missing_file_is_never_newer() {
        assert!(!is_newer(Path::new("no-such-file"), &root()));
    }
}
