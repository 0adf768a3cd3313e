use super::*;
use crate::tools;
use serde_json::json;

/// A package of a made-up registry in `folder`, with these files.
fn package(folder: &Path, name: &str, license: &str, files: &[(&str, &str)]) -> Package {
    let folder = folder.join(name);
    fs::create_dir_all(&folder).unwrap();
    for (file, text) in files {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    Package {
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        license: license.to_owned(),
        authors: vec!["Ada".to_owned(), "Grace".to_owned()],
        source: format!("https://crates.io/crates/{name}/1.0.0"),
        folder,
        license_file: None,
    }
}

#[test]
fn what_is_compiled_in_is_neither_of_tests_nor_of_build_scripts_nor_a_macro() {
    let package = |name: &str, source: Value, kind: &str| {
        json!({
            "id": name, "name": name, "version": "1.0.0", "license": "MIT", "authors": ["Ada"], "source": source,
            "manifest_path": format!("/registry/{name}/Cargo.toml"), "targets": [{ "kind": [kind] }],
        })
    };
    let registry = || json!("registry+https://github.com/rust-lang/crates.io-index");
    let depends = |on: &str, kind: Value| json!({ "pkg": on, "dep_kinds": [{ "kind": kind }] });
    let metadata = json!({
        "packages": [
            package("program", Value::Null, "bin"),
            package("part", Value::Null, "lib"),
            package("used", registry(), "lib"),
            package("below", registry(), "lib"),
            package("tested", registry(), "lib"),
            package("built", registry(), "lib"),
            package("derived", registry(), "proc-macro"),
            package("behind-macro", registry(), "lib"),
        ],
        "resolve": { "nodes": [
            { "id": "program", "deps": [
                depends("part", Value::Null), depends("tested", json!("dev")), depends("built", json!("build")),
            ]},
            { "id": "part", "deps": [depends("used", Value::Null), depends("derived", Value::Null)] },
            // Rings exist, through tests.
            { "id": "used", "deps": [depends("below", Value::Null), depends("used", Value::Null)] },
            { "id": "derived", "deps": [depends("behind-macro", Value::Null)] },
        ]},
    });
    let found = compiled_in(&metadata, "program").unwrap();
    let names: Vec<_> = found.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["below", "used"]);
    assert_eq!(found[0].folder, Path::new("/registry/below"));
    assert_eq!(found[0].source, "https://crates.io/crates/below/1.0.0");
    let error = compiled_in(&metadata, "used").unwrap_err().to_string();
    assert!(error.contains("no package used"), "{error}");
}

#[test]
fn every_text_stands_there_once_with_those_it_belongs_to() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let packages = [
        package(
            at,
            "a",
            "MIT",
            &[
                ("LICENSE-MIT", "Copyright Ada.\nDo as you like.\n"),
                ("src/vendored/COPYING", "Also of Niklaus."),
                ("src/license.rs", "fn main() {}"),
                ("tests/LICENSE", "Of test data."),
            ],
        ),
        package(
            at,
            "b",
            "MIT",
            &[("licence.md", "Copyright Ada.\r\n  Do as you like.")],
        ),
    ];
    let text = notices(&packages, "").unwrap();
    assert!(
        text.contains("a 1.0.0: MIT\n    https://crates.io/crates/a/1.0.0\n"),
        "{text}"
    );
    assert_eq!(text.matches("Do as you like.").count(), 1, "{text}");
    assert!(
        text.contains("\na 1.0.0 (LICENSE-MIT), b 1.0.0 (licence.md)\n"),
        "{text}"
    );
    assert!(text.contains("Also of Niklaus."), "{text}");
    assert!(!text.contains("fn main") && !text.contains("Of test data"));
}

#[test]
fn packages_without_a_text_get_one_or_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let vendored = [("src/vendored/LICENSE", "Not its own.")];
    let mozilla = "Mozilla Public License Version 2.0 …";
    let mut packages = vec![
        package(at, "either", "MIT/Apache-2.0", &vendored),
        package(at, "mit", "MIT", &[]),
        package(at, "mozilla", "MPL-2.0", &[]),
        package(at, "mozilla-too", "MPL-2.0", &[("LICENSE", mozilla)]),
    ];
    let text = notices(&packages, "Text of Apache.").unwrap();
    assert!(
        text.contains("\neither 1.0.0\n") && text.contains("Text of Apache."),
        "{text}"
    );
    assert!(text.contains("Copyright (c) Ada, Grace\n\nPermission is hereby granted"));
    assert!(
        text.contains("mozilla-too 1.0.0 (LICENSE), mozilla 1.0.0\n"),
        "{text}"
    );

    packages.push(package(at, "bsd", "BSD-3-Clause", &[]));
    packages.push(package(
        at,
        "both",
        "(MIT OR Apache-2.0) AND BSD-3-Clause",
        &[],
    ));
    packages.push(package(at, "none", "", &[]));
    let error = notices(&packages, "").unwrap_err().to_string();
    for name in [
        "bsd 1.0.0 (BSD-3-Clause)",
        "both 1.0.0 ((MIT OR Apache-2.0) AND BSD-3-Clause)",
        "none 1.0.0 ()",
    ] {
        assert!(error.contains(name), "{error}");
    }
    assert!(
        !error.contains("mit 1.0.0") && !error.contains("either"),
        "{error}"
    );
    // A licence under another name counts where the manifest says so, and has to be there.
    let mut named = package(at, "named", "", &[("TERMS", "Terms of its own.")]);
    named.license_file = Some("TERMS".to_owned());
    assert!(
        notices(&[named.clone()], "")
            .unwrap()
            .contains("Terms of its own.")
    );
    named.license_file = Some("NOWHERE".to_owned());
    let error = notices(&[named], "").unwrap_err().to_string();
    assert!(error.contains("NOWHERE"), "{error}");
}

/// The program as it is: a new dependency without a licence shows here and not on the day of a release.
#[test]
fn everything_in_the_program_has_a_licence_text() {
    let packages = crate::dist::packages(&crate::dist::host().unwrap()).unwrap();
    let apache = fs::read_to_string(tools::root().join("LICENSE")).unwrap();
    let text = notices(&packages, &apache).unwrap();
    let has = |name: &str| packages.iter().any(|package| package.name == name);
    assert!(has("burn-core") && has("wgpu") && has("tokenizers") && has("axum"));
    // Of tests, of macros, of this task runner.
    assert!(!has("proptest") && !has("serde_derive") && !has("wasm-bindgen-cli-support"));
    // Of a feature of Burn that is off.
    assert!(!has("tch"));
    // C code that a package brings along.
    assert!(text.contains("Microsoft Corporation, Daan Leijen"));
    let ours = packages.iter().any(|it| it.name.starts_with("mor-"));
    assert!(!ours, "our own packages are under LICENSE");
}
