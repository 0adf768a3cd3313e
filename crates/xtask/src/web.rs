//! The chat page: engine to WebAssembly, JavaScript bindings, optimiser, Vite.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use wasm_bindgen_cli_support::Bindgen;

use crate::phases::Phases;
use crate::tools;

/// The instructions that rustc may use for this target (.cargo/config.toml adds SIMD); the
/// optimiser must be told, and must not use more.
const WASM_FEATURES: [&str; 7] = [
    "--enable-simd",
    "--enable-bulk-memory",
    "--enable-sign-ext",
    "--enable-nontrapping-float-to-int",
    "--enable-mutable-globals",
    "--enable-reference-types",
    "--enable-multivalue",
];

/// `cargo xtask web`.
pub(crate) fn run() -> Result<()> {
    let mut phases = Phases::default();
    let outcome = build(&mut phases);
    eprintln!("\n{}", phases.table());
    outcome
}

/// Builds the page into web/dist and prints the sizes of what a visitor downloads.
pub(crate) fn build(phases: &mut Phases) -> Result<()> {
    phases.run("npm packages", tools::ensure_npm_packages)?;
    bindings(phases)?;
    phases.run("page (Vite)", || {
        tools::run(tools::npm().args(["run", "build"]))
    })?;
    print_sizes(&tools::web_dir().join("dist"))
}

/// Builds the browser module and its bindings into web/pkg. Needs the npm packages.
pub(crate) fn bindings(phases: &mut Phases) -> Result<()> {
    let module = phases.run("engine (WebAssembly)", || {
        tools::ensure_wasm_target()?;
        tools::run(tools::cargo().args([
            "build",
            "--package",
            "mor-web",
            "--profile",
            "wasm",
            "--target",
            tools::WASM_TARGET,
        ]))?;
        Ok(tools::target_dir()?
            .join(tools::WASM_TARGET)
            .join("wasm/mor_web.wasm"))
    })?;
    phases.run("bindings and wasm-opt", || bind(&module))
}

fn bind(module: &Path) -> Result<()> {
    let package = tools::web_dir().join("pkg");
    let stamp_file = package.join(".stamp");
    let stamp = stamp(module)?;
    if fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp) {
        eprintln!("web/pkg is up to date");
        return Ok(());
    }
    // Nothing of an earlier build may survive beside the new one, and the stamp goes first.
    if package.exists() {
        fs::remove_dir_all(&package)
            .with_context(|| format!("cannot clear {}", package.display()))?;
    }
    Bindgen::new()
        .input_path(module)
        .web(true)?
        .typescript(true)
        .remove_name_section(true)
        .generate(&package)
        .with_context(|| format!("cannot generate bindings for {}", module.display()))?;
    let bound = package.join("mor_web_bg.wasm");
    let optimised = package.join("mor_web_bg.wasm.opt");
    tools::run(
        tools::node_script("binaryen/bin/wasm-opt")?
            // -O3 takes a third longer and saves another 0.2 %: the compiler has been there before.
            .arg("-O2")
            .args(WASM_FEATURES)
            .arg(&bound)
            .arg("-o")
            .arg(&optimised),
    )?;
    fs::rename(&optimised, &bound)
        .with_context(|| format!("cannot replace {}", bound.display()))?;
    fs::write(&stamp_file, stamp).with_context(|| format!("cannot write {}", stamp_file.display()))
}

/// What identifies one build of the module: when Cargo wrote it and how long it is.
fn stamp(module: &Path) -> Result<String> {
    let data = fs::metadata(module).with_context(|| format!("cannot read {}", module.display()))?;
    let written = data
        .modified()?
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Ok(format!("{} {}\n", written.as_nanos(), data.len()))
}

fn print_sizes(folder: &Path) -> Result<()> {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    files.sort();
    eprintln!();
    for (path, bytes) in &files {
        let shown = path.strip_prefix(tools::root()).unwrap_or(path);
        eprintln!("{:>9}  {}", kilobytes(*bytes), shown.display());
    }
    let total = files.iter().map(|(_, bytes)| bytes).sum();
    eprintln!("{:>9}  in all, without the model", kilobytes(total));
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let data = entry.metadata()?;
        if data.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push((entry.path(), data.len()));
        }
    }
    Ok(())
}

fn kilobytes(bytes: u64) -> String {
    format!("{} kB", bytes.div_ceil(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_up() {
        assert_eq!(kilobytes(0), "0 kB");
        assert_eq!(kilobytes(1), "1 kB");
        assert_eq!(kilobytes(128_400), "129 kB");
    }

    #[test]
    fn the_stamp_follows_the_file() {
        let here = Path::new(file!());
        let manifest = tools::root().join("Cargo.toml");
        let first = stamp(&manifest).unwrap();
        assert_eq!(first, stamp(&manifest).unwrap());
        assert_ne!(first, stamp(&tools::root().join(here)).unwrap());
        assert!(stamp(Path::new("no-such-module.wasm")).is_err());
    }
}
