//! The program for this platform as an archive: with the model that ships, the recipes, and the licences of everything in
//! it.

use std::collections::HashSet;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use lzma_rust2::{XzOptions, XzWriter};
use serde_json::Value;

use crate::notices::{self, Package};
use crate::phases::Phases;
use crate::tools;

/// What is packed besides the program and its licences, relative to the workspace: what `mor` looks for where no option
/// names another, and what one needs to train.
const FOLDERS: [&str; 2] = ["models/technical-10m", "configs"];

/// The notices of Rust's standard library, which every program contains, in the folder of the toolchain.
const STANDARD_LIBRARY: &str = "share/doc/rust/COPYRIGHT-library.html";

/// What `cargo xtask dist` accepts.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Cargo profile to build with; any but `release` is for trying this task out.
    #[arg(long, value_name = "NAME", default_value = "release")]
    profile: String,
}

/// `cargo xtask dist`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut phases = Phases::default();
    let outcome = pack(args, &mut phases);
    eprintln!("\n{}", phases.table());
    let (archive, packages) = outcome?;
    let bytes = fs::metadata(&archive)?.len();
    let shown = archive.strip_prefix(tools::root()).unwrap_or(&archive);
    println!(
        "{}: {:.1} MiB, with the licences of {packages} packages",
        shown.display(),
        bytes as f64 / f64::from(1 << 20)
    );
    Ok(())
}

/// The archive, and how many packages are compiled into its program.
fn pack(args: &Args, phases: &mut Phases) -> Result<(PathBuf, usize)> {
    let target = host()?;
    // What is missing should be known before the long part.
    let (packages, mut files) = phases.run("licences", || {
        let packages = packages(&target)?;
        let mut files = licences(&packages)?;
        for folder in FOLDERS {
            files.extend(folder_files(&tools::root(), folder)?);
        }
        Ok((packages, files))
    })?;
    phases.run("program", || {
        let profile = args.profile.as_str();
        let build = ["build", "--locked", "--package", "mor-cli", "--profile"];
        // Names of functions are a quarter of the program.
        let strip = profile.to_uppercase().replace('-', "_");
        tools::run(
            tools::cargo()
                .args(build)
                .arg(profile)
                .env(format!("CARGO_PROFILE_{strip}_STRIP"), "symbols"),
        )
    })?;
    // Cargo calls one folder otherwise than its profile.
    let folder = match args.profile.as_str() {
        "dev" | "test" => "debug",
        "bench" => "release",
        other => other,
    };
    let program = tools::built_program(folder, "mor")?;
    files.push(Packed {
        name: format!("mor{}", env::consts::EXE_SUFFIX),
        content: fs::read(&program)
            .with_context(|| format!("cannot read {}", program.display()))?,
        executable: true,
    });
    // All packages of the workspace have one version, this one too.
    let name = format!("mor-{}-{target}", env!("CARGO_PKG_VERSION"));
    let dist = tools::target_dir()?.join("dist");
    fs::create_dir_all(&dist).with_context(|| format!("cannot make {}", dist.display()))?;
    let archive = dist.join(format!("{name}.tar.xz"));
    phases.run("archive", || write(&archive, &name, &files))?;
    Ok((archive, packages.len()))
}

/// The platform that programs are compiled for.
pub(crate) fn host() -> Result<String> {
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let text = tools::output(rustc.current_dir(tools::root()).arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

/// What is compiled into the program for a platform.
pub(crate) fn packages(target: &str) -> Result<Vec<Package>> {
    let arguments = [
        "metadata",
        "--locked",
        "--format-version",
        "1",
        "--filter-platform",
    ];
    let text = tools::output(tools::cargo().args(arguments).arg(target))?;
    let metadata: Value =
        serde_json::from_str(&text).context("`cargo metadata` printed no JSON")?;
    let mut packages = notices::compiled_in(&metadata, "mor-cli")?;
    // That also lists what only features which are off would bring; this does not.
    let arguments = [
        "tree",
        "--locked",
        "--package",
        "mor-cli",
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "--format",
        "{p}",
        "--target",
    ];
    let tree = tools::output(tools::cargo().args(arguments).arg(target))?;
    let titles: HashSet<String> = tree
        .lines()
        .filter_map(|line| line.split_once(" v"))
        .map(|(name, rest)| {
            let version = rest.split(' ').next().unwrap_or_default();
            format!("{name} {version}")
        })
        .collect();
    packages.retain(|package| titles.contains(&package.title()));
    Ok(packages)
}

/// A file of the archive.
struct Packed {
    /// Its path in the archive's folder, with `/` between the parts.
    name: String,
    content: Vec<u8>,
    executable: bool,
}

impl Packed {
    fn read(path: &Path, name: impl Into<String>) -> Result<Self> {
        Ok(Self {
            name: name.into(),
            content: fs::read(path).with_context(|| format!("cannot read {}", path.display()))?,
            executable: false,
        })
    }
}

/// The project's licence, those of the packages, and those of the standard library.
fn licences(packages: &[Package]) -> Result<Vec<Packed>> {
    let own = Packed::read(&tools::root().join("LICENSE"), "LICENSE")?;
    let text = notices::notices(packages, &String::from_utf8_lossy(&own.content))?;
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let sysroot = tools::output(
        rustc
            .current_dir(tools::root())
            .args(["--print", "sysroot"]),
    )?;
    let path = Path::new(&sysroot).join(STANDARD_LIBRARY);
    if !path.is_file() {
        bail!(
            "{} is missing, the notices of Rust's standard library: they come with the toolchain that rustup installs, so \
             install Rust from https://rustup.rs",
            path.display()
        );
    }
    let standard = Packed::read(&path, "RUST-STANDARD-LIBRARY.html")?;
    let others = Packed {
        name: "THIRD-PARTY.txt".to_owned(),
        content: text.into_bytes(),
        executable: false,
    };
    Ok(vec![own, others, standard])
}

/// The files of a folder of the workspace and of those in it, by name, but for hidden ones.
fn folder_files(root: &Path, folder: &str) -> Result<Vec<Packed>> {
    let place = root.join(folder);
    let entries = fs::read_dir(&place).with_context(|| {
        format!("cannot list {folder}: it belongs to the repository, so restore it with `git checkout -- {folder}`")
    })?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    names.retain(|name| !name.starts_with('.'));
    let mut files = Vec::new();
    for name in names {
        let name = format!("{folder}/{name}");
        if root.join(&name).is_dir() {
            files.extend(folder_files(root, &name)?);
        } else {
            files.push(Packed::read(&root.join(&name), name)?);
        }
    }
    Ok(files)
}

/// Writes an archive with `files` in one folder, whole or not at all.
fn write(archive: &Path, folder: &str, files: &[Packed]) -> Result<()> {
    let part = archive.with_extension("part");
    let written = write_to(&part, folder, files).and_then(|()| Ok(fs::rename(&part, archive)?));
    if written.is_err() {
        // There may be none.
        let _ = fs::remove_file(&part);
    }
    written.with_context(|| format!("cannot write {}", archive.display()))
}

fn write_to(path: &Path, folder: &str, files: &[Packed]) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    // A third smaller than with gzip, and every system's tar reads it.
    let xz = XzWriter::new(File::create(path)?, XzOptions::with_preset(9))?;
    let mut tar = tar::Builder::new(xz);
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(file.content.len() as u64);
        header.set_mode(if file.executable { 0o755 } else { 0o644 });
        header.set_mtime(now);
        let name = format!("{folder}/{}", file.name);
        tar.append_data(&mut header, name, file.content.as_slice())?;
    }
    Ok(tar.into_inner()?.finish()?.sync_all()?)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use lzma_rust2::XzReader;

    use super::*;

    fn packed(name: &str, content: &str, executable: bool) -> Packed {
        Packed {
            name: name.to_owned(),
            content: content.as_bytes().to_vec(),
            executable,
        }
    }

    #[test]
    fn an_archive_gives_back_its_files_in_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("a.tar.xz");
        let files = [
            packed("mor", "program", true),
            packed("models/m/config.json", "{}", false),
        ];
        write(&archive, "mor-1", &files).unwrap();
        let mut tar = tar::Archive::new(XzReader::new(File::open(&archive).unwrap(), false));
        let mut found = Vec::new();
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            let name = entry.path().unwrap().to_string_lossy().into_owned();
            found.push((name, content, entry.header().mode().unwrap()));
        }
        let expected = [
            ("mor-1/mor", "program", 0o755),
            ("mor-1/models/m/config.json", "{}", 0o644),
        ];
        let expected = expected.map(|(name, text, mode)| (name.to_owned(), text.to_owned(), mode));
        assert_eq!(found, expected);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_named_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        // A folder is in the way of the archive.
        let archive = folder.path().join("a.tar.xz");
        fs::create_dir_all(archive.join("in-the-way")).unwrap();
        let error = write(&archive, "mor-1", &[]).unwrap_err();
        assert!(format!("{error:#}").contains("a.tar.xz"), "{error:#}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn folders_are_packed_whole_but_for_hidden_files() {
        let root = tempfile::tempdir().unwrap();
        let files = ["m/b", "m/a/c", "m/.hidden"].map(|name| root.path().join(name));
        for file in &files {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "content").unwrap();
        }
        let found = folder_files(root.path(), "m").unwrap();
        let names: Vec<_> = found.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["m/a/c", "m/b"]);
        let error = folder_files(root.path(), "nowhere").err().unwrap();
        assert!(
            error.to_string().starts_with("cannot list nowhere: "),
            "{error:#}"
        );
        for folder in FOLDERS {
            assert!(tools::root().join(folder).is_dir(), "{folder}");
        }
    }
}
