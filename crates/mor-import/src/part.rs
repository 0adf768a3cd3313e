//! Files that stand for a checkpoint without being one.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// How Git LFS begins the file that it leaves in a large one's place.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Why a path is no whole checkpoint, and what to do, if its name or its first bytes tell.
pub(crate) fn not_whole(path: &Path) -> Option<String> {
    if path.is_dir() {
        return Some("is a folder; give the checkpoint file in it".to_owned());
    }
    let name = path.file_name()?.to_str()?;
    if let Some(parts) = parts(name) {
        return Some(format!(
            "is one of {parts} parts of a checkpoint; load the whole of it with the program that saved it, and save it \
             as one file"
        ));
    }
    if name.ends_with(".index.json") {
        return Some(
            "lists the parts of a checkpoint; load the whole of it with the program that saved it, and save it as one \
             file"
                .to_owned(),
        );
    }
    let mut start = Vec::new();
    let file = File::open(path).ok()?;
    file.take(LFS_POINTER.len() as u64)
        .read_to_end(&mut start)
        .ok()?;
    (start == LFS_POINTER).then(|| {
        "is what Git LFS keeps in a large file's place; fetch the file itself with `git lfs pull`"
            .to_owned()
    })
}

/// The number of parts that `NAME-00001-of-00002.safetensors` is one of, if more than one.
fn parts(name: &str) -> Option<u32> {
    let stem = name.split('.').next()?;
    let (before, total) = stem.rsplit_once("-of-")?;
    let (_, number) = before.rsplit_once('-')?;
    number.parse::<u32>().ok()?;
    total.parse().ok().filter(|total| *total > 1)
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn parts_are_told_by_their_names() {
        assert_eq!(parts("model-00001-of-00002.safetensors"), Some(2));
        assert_eq!(parts("pytorch_model-00010-of-00013.bin"), Some(13));
        for whole in [
            "model-00001-of-00001.safetensors",
            "model.safetensors",
            "best-of-3.pt",
            "a-b-of-c.pt",
        ] {
            assert_eq!(parts(whole), None, "{whole}");
        }
    }
}
