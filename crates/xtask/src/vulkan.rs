//! Whether there is something that GPU code can be tested on.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use anyhow::{Result, bail};

/// Makes sure that this machine has some Vulkan driver, where that is what GPU code runs on; one that plays a GPU on the
/// processor will do.
pub(crate) fn ensure_driver() -> Result<()> {
    let chosen = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];
    if !cfg!(target_os = "linux") || chosen.iter().any(|name| env::var_os(name).is_some()) {
        return Ok(());
    }
    listed_in(folders())
}

/// Where Vulkan's loader looks for lists of drivers on Linux, by its documentation.
fn folders() -> impl Iterator<Item = PathBuf> {
    let variable = |name: &str, or: &str| {
        let value = env::var_os(name).filter(|value| !value.is_empty());
        value.unwrap_or_else(|| or.into())
    };
    let paths = |value: OsString| env::split_paths(&value).collect::<Vec<_>>();
    let home = env::home_dir().unwrap_or_default();
    let own = [
        variable("XDG_CONFIG_HOME", &home.join(".config").to_string_lossy()),
        variable("XDG_CONFIG_DIRS", "/etc/xdg"),
        "/etc:/usr/local/etc".into(),
        variable(
            "XDG_DATA_HOME",
            &home.join(".local/share").to_string_lossy(),
        ),
        variable("XDG_DATA_DIRS", "/usr/local/share:/usr/share"),
        // NixOS.
        "/run/opengl-driver/share".into(),
    ];
    let folders = own.into_iter().flat_map(paths);
    folders.map(|folder| folder.join("vulkan/icd.d"))
}

fn listed_in(mut folders: impl Iterator<Item = PathBuf>) -> Result<()> {
    let lists =
        |folder: PathBuf| fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some());
    if folders.any(lists) {
        return Ok(());
    }
    bail!(
        "no Vulkan driver found, which tests of GPU code run on, with or without a GPU: install one \
         (on Debian and Ubuntu: apt-get install mesa-vulkan-drivers)"
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_machine_without_a_vulkan_driver_hears_what_to_install() {
        let folder = env::temp_dir().join(format!("mor-xtask-{}", std::process::id()));
        let drivers = || [folder.join("nowhere"), folder.join("icd.d")].into_iter();
        fs::create_dir_all(folder.join("icd.d")).unwrap();
        let error = listed_in(drivers()).unwrap_err().to_string();
        assert!(error.contains("mesa-vulkan-drivers"), "{error}");
        fs::write(folder.join("icd.d/lvp_icd.x86_64.json"), "{}").unwrap();
        assert!(listed_in(drivers()).is_ok());
        fs::remove_dir_all(folder).unwrap();
        let usual = Path::new("/usr/share/vulkan/icd.d");
        assert!(env::var_os("XDG_DATA_DIRS").is_some() || folders().any(|at| at == usual));
    }
}
