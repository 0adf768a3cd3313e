//! The licences of what is compiled into the program: which packages these are by `cargo metadata`, and the texts
//! that lie in their folders.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The licence of packages that offer it and come without a text: this project's own, whose text is at hand.
const APACHE: &str = "Apache-2.0";

/// The MIT licence without its copyright line, which names the authors of a package.
const MIT: &str = include_str!("mit.txt");

/// Folders of a package from which nothing is compiled in.
const SKIPPED: [&str; 5] = ["tests", "benches", "examples", "docs", "target"];

/// How files with licences begin, in lower case.
const NAMES: [&str; 6] = [
    "licen",
    "copying",
    "copyright",
    "notice",
    "unlicense",
    "patents",
];

/// Endings of files that are code about licences, not licences.
const CODE: [&str; 9] = ["rs", "sh", "py", "c", "h", "toml", "json", "yml", "yaml"];

/// A package from a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    name: String,
    version: String,
    /// An SPDX expression. Older packages write `/` for `OR`.
    license: String,
    authors: Vec<String>,
    /// Where its source can be had.
    source: String,
    /// Its folder.
    folder: PathBuf,
    /// A licence under a name of its own, relative to the folder.
    license_file: Option<String>,
}

/// The packages that are compiled into the workspace's package `root`, by name, given what `cargo metadata` says:
/// what it depends on, without its tests, build scripts and procedural macros, and without packages of the workspace.
pub(crate) fn compiled_in(metadata: &Value, root: &str) -> Result<Vec<Package>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let by_id = |list: Vec<Value>| -> HashMap<String, Value> {
        let id = |item: &Value| item["id"].as_str().map(str::to_owned);
        list.into_iter()
            .filter_map(|item| Some((id(&item)?, item)))
            .collect()
    };
    let packages = by_id(list(&metadata["packages"]));
    let nodes = by_id(list(&metadata["resolve"]["nodes"]));
    let is_root =
        |package: &&Value| package["name"].as_str() == Some(root) && package["source"].is_null();
    let root_id = packages
        .values()
        .find(is_root)
        .and_then(|package| package["id"].as_str())
        .with_context(|| format!("`cargo metadata` knows no package {root}"))?;

    let mut seen = HashSet::from([root_id.to_owned()]);
    let mut open = vec![root_id.to_owned()];
    let mut found = Vec::new();
    while let Some(id) = open.pop() {
        let package = packages
            .get(&id)
            .with_context(|| format!("`cargo metadata` does not describe {id}"))?;
        if is_procedural_macro(package) {
            continue;
        }
        if !package["source"].is_null() {
            found.push(Package::read(package)?);
        }
        for dependency in list(&nodes.get(&id).unwrap_or(&Value::Null)["deps"]) {
            // A kind of null is an ordinary dependency; the others are of tests and build scripts.
            let ordinary = list(&dependency["dep_kinds"])
                .iter()
                .any(|it| it["kind"].is_null());
            if let Some(id) = dependency["pkg"].as_str().filter(|_| ordinary)
                && seen.insert(id.to_owned())
            {
                open.push(id.to_owned());
            }
        }
    }
    found.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(found)
}

fn is_procedural_macro(package: &Value) -> bool {
    let targets = package["targets"].as_array().into_iter().flatten();
    let mut kinds = targets.flat_map(|target| target["kind"].as_array().into_iter().flatten());
    kinds.any(|kind| kind == "proc-macro")
}

impl Package {
    fn read(package: &Value) -> Result<Self> {
        let text = |key: &str| package[key].as_str().map(str::to_owned);
        let required = |key: &str| {
            text(key).with_context(|| format!("`cargo metadata` gives a package without {key}"))
        };
        let (name, version) = (required("name")?, required("version")?);
        let manifest = PathBuf::from(required("manifest_path")?);
        let authors = package["authors"].as_array().into_iter().flatten();
        let from_registry = text("source").is_some_and(|it| it.contains("crates.io-index"));
        let source = match (from_registry, text("repository")) {
            (true, _) => format!("https://crates.io/crates/{name}/{version}"),
            (false, Some(repository)) => repository,
            (false, None) => text("source").unwrap_or_default(),
        };
        Ok(Self {
            license: text("license").unwrap_or_default(),
            authors: authors
                .filter_map(|author| author.as_str().map(str::to_owned))
                .collect(),
            source,
            folder: manifest.parent().unwrap_or(Path::new("")).to_owned(),
            license_file: text("license_file"),
            name,
            version,
        })
    }

    /// Name and version.
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// The files with licences, relative to its folder, those of code that it brings along included; and whether one of
    /// them is its own.
    fn files(&self) -> Result<(BTreeSet<PathBuf>, bool)> {
        let mut files = BTreeSet::new();
        search(&self.folder, Path::new(""), &mut files)
            .with_context(|| format!("cannot list the files of {}", self.title()))?;
        files.extend(self.license_file.iter().map(PathBuf::from));
        let at_top = |file: &PathBuf| file.components().count() == 1;
        let own = self.license_file.is_some() || files.iter().any(at_top);
        Ok((files, own))
    }

    /// A text for a package that comes without: of a licence that it offers, and whose text says the same for all.
    fn standard_text(&self, apache: &str, others: &HashMap<String, String>) -> Option<String> {
        let offered: Vec<&str> = self
            .license
            .split('/')
            .flat_map(|part| part.split(" OR "))
            .map(str::trim)
            .collect();
        if offered.contains(&APACHE) {
            return Some(apache.to_owned());
        }
        if offered.contains(&"MIT") {
            let holders = match self.authors.as_slice() {
                [] => format!("the authors of {}", self.name),
                authors => authors.join(", "),
            };
            return Some(format!("Copyright (c) {holders}\n\n{MIT}"));
        }
        others.get(&self.license).cloned()
    }
}

/// Collects the files of a folder that are licences by their name.
fn search(folder: &Path, below: &Path, files: &mut BTreeSet<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder.join(below))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = below.join(&name);
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if !name.starts_with('.') && !SKIPPED.contains(&name.as_str()) {
                search(folder, &path, files)?;
            }
        } else if is_licence(&name) {
            files.insert(path);
        }
    }
    Ok(())
}

fn is_licence(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let ending = Path::new(&name).extension().and_then(|it| it.to_str());
    NAMES.iter().any(|start| name.starts_with(start))
        && ending.is_none_or(|ending| !CODE.contains(&ending))
}

/// One text with a list of the packages, and the text of each licence once with the packages that it belongs to. `apache`
/// is the text of Apache-2.0, for packages that offer that licence and come without its text.
///
/// # Errors
/// Where a package has no text and none is known for its licence: all such packages, by name.
pub(crate) fn notices(packages: &[Package], apache: &str) -> Result<String> {
    let mut texts = Texts::default();
    let mut without = Vec::new();
    // Texts of licences that say the same in every package, found where a package has that licence alone.
    let mut others = HashMap::new();
    for package in packages {
        let (files, own) = package.files()?;
        if !own {
            without.push(package);
        }
        for file in &files {
            let path = package.folder.join(file);
            let bytes =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if package.license == "MPL-2.0" && text.contains("Mozilla Public License Version 2.0") {
                others.insert(package.license.clone(), text.clone());
            }
            texts.add(&text, format!("{} ({})", package.title(), file.display()));
        }
    }
    let mut missing = Vec::new();
    for package in without {
        match package.standard_text(apache, &others) {
            Some(text) => texts.add(&text, package.title()),
            None => missing.push(format!("{} ({})", package.title(), package.license)),
        }
    }
    if !missing.is_empty() {
        bail!(
            "no text of the licence comes with {}, and none is known: add it in crates/xtask/src/notices.rs",
            missing.join(", ")
        );
    }
    Ok(written(packages, &texts))
}

/// Licence texts in the order in which they were found, each once but for white space.
#[derive(Default)]
struct Texts {
    places: HashMap<String, usize>,
    /// Each with those that it belongs to.
    all: Vec<(String, Vec<String>)>,
}

impl Texts {
    fn add(&mut self, text: &str, owner: String) {
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let next = self.all.len();
        let place = *self.places.entry(words).or_insert(next);
        if place == next {
            self.all.push((text.replace("\r\n", "\n"), Vec::new()));
        }
        self.all[place].1.push(owner);
    }
}

fn written(packages: &[Package], texts: &Texts) -> String {
    let (thick, thin) = ("=".repeat(100), "-".repeat(100));
    let mut out = String::from(
        "mor is under Apache-2.0 (LICENSE). These packages are compiled into it, under licences of their own, whose texts\n\
         follow. The source of each is at the address beside it. The notices of Rust's standard library are in\n\
         RUST-STANDARD-LIBRARY.html.\n\n",
    );
    for package in packages {
        let (title, license, source) = (package.title(), &package.license, &package.source);
        let license = if license.is_empty() {
            "its own licence"
        } else {
            license
        };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{title}: {license}\n    {source}");
    }
    for (text, owners) in &texts.all {
        let owners = owners.join(", ");
        let _ = write!(out, "\n{thick}\n{owners}\n{thin}\n{}\n", text.trim_end());
    }
    out
}

#[cfg(test)]
#[path = "notices_tests.rs"]
mod tests;
