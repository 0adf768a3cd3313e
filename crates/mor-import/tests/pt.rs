//! PyTorch checkpoints, as `tests/data/pt/make.py` makes them.

use std::path::{Path, PathBuf};

use mor_import::{Checkpoint, PtFile};

const NUMBERS: [f32; 6] = [0.5, -1.0, 2.0, 3.25, -4.5, 6.0];

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data/pt")
        .join(name)
}

#[test]
fn every_type_and_view_is_read() {
    for name in ["stored.pt", "deflated.pt"] {
        let file = PtFile::open(&data(name)).expect(name);
        let values = |name: &str| file.to_f32(name).expect(name);
        for name in ["f32", "f16", "bf16", "f64", "parameter"] {
            assert_eq!(values(name), NUMBERS, "{name}");
        }
        assert_eq!(values("transposed"), [0.5, 3.25, -1.0, -4.5, 2.0, 6.0]);
        assert_eq!(values("column"), [-1.0, -4.5]);
        assert_eq!(values("scalar"), [7.0]);
        assert!(values("empty").is_empty());
        assert_eq!(file.shape("transposed"), Some(&[3, 2][..]));
        assert_eq!(file.shape("scalar"), Some(&[][..]));
        assert_eq!(file.to_i64("i64").expect("i64"), [1, -2, 3]);
        assert_eq!(file.to_i64("i32").expect("i32"), [1, -2, 3]);
        for name in ["u8", "flag", "i64"] {
            let error = file.to_f32(name).expect_err(name).to_string();
            assert!(error.contains(&format!("`{name}`")), "{error}");
        }
        assert_eq!(file.names().count(), 13);
    }
}

#[test]
fn state_dicts_are_found_in_checkpoints_and_under_prefixes() {
    let checkpoint = Checkpoint::open(&data("nested.pt")).expect("a checkpoint");
    assert_eq!(checkpoint.names().count(), 13);
    assert_eq!(
        checkpoint.to_f32("f32").expect("without `module.`"),
        NUMBERS
    );
    assert_eq!(checkpoint.shape("f32"), Some(&[2, 3][..]));
}

#[test]
fn numbers_that_are_not_finite_are_refused_with_their_tensor() {
    let mut bytes = std::fs::read(data("stored.pt")).expect("there");
    let stored = NUMBERS.map(f32::to_le_bytes).concat();
    let at = bytes.windows(stored.len()).position(|part| part == stored);
    let at = at.expect("stored as it is");
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("nan.pt");
    std::fs::write(&path, bytes).expect("writable");
    let checkpoint = Checkpoint::open(&path).expect("a checkpoint");
    let refused = checkpoint
        .names()
        .filter_map(|name| checkpoint.to_f32(name).err());
    let refused: Vec<_> = refused.map(|error| error.to_string()).collect();
    let named = |error: &String| error.contains("nan.pt: tensor `") && error.contains("holds NaN");
    assert!(refused.iter().any(named), "{refused:?}");
}

#[test]
fn views_stay_inside_their_storage() {
    let file = PtFile::open(&data("views.pt")).expect("described well enough");
    let problem = |name: &str| file.to_f32(name).expect_err(name).to_string();
    assert!(problem("expanded").contains("larger than its storage"));
    assert!(problem("outside").contains("outside its storage"));
    assert!(problem("none").contains("no tensor `none`"));
}

#[test]
fn other_files_are_refused_by_name() {
    for (name, expected) in [
        ("program.pt", "names `__builtin__.print`"),
        ("script.pt", "TorchScript"),
        (
            "empty.pt",
            "holds no state dict: found a dictionary (epoch)",
        ),
        ("legacy.pt", "before 1.6; save it again"),
        ("make.py", "does not begin like a zip archive"),
    ] {
        let error = PtFile::open(&data(name)).expect_err(name).to_string();
        assert!(error.contains(name) && error.contains(expected), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let error = Checkpoint::open(&data("make.py")).expect_err("no format");
    assert!(error.to_string().contains("neither .safetensors nor .pt"));
}

/// A deflated entry that claims, or has, far more bytes than the file is not unpacked.
#[test]
fn bombs_do_not_go_off() {
    let mut bytes = std::fs::read(data("deflated.pt")).expect("there");
    let headers: Vec<usize> = (0..bytes.len() - 4)
        .filter(|at| bytes[*at..].starts_with(b"PK\x01\x02"))
        .collect();
    for at in headers {
        bytes[at + 24..at + 28].copy_from_slice(&(1_u32 << 30).to_le_bytes());
    }
    let error = PtFile::from_bytes(bytes, Path::new("bomb.pt")).expect_err("too large");
    assert!(
        error.to_string().contains("more than twice the file"),
        "{error}"
    );
}
