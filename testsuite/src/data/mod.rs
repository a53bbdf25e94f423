//! Public data sets, brought into the form that the models take.
//!
//! Large sets are not part of the repository. The environment variable [`VARIABLE`] names a folder with the sub-folders
//! `data/` and `oracle/`; what needs them asks [`folder`] and says what is missing.

pub mod cifar;
pub mod error;
pub mod idx;
pub mod imagenet;
pub mod input;
pub mod normalise;
pub mod sets;

use std::ffi::OsString;
use std::path::PathBuf;

pub use error::DataError;
pub use sets::{Set, Written, prepare};

/// Name of the environment variable that names the folder.
pub const VARIABLE: &str = "FHE_DATA";

/// The folder that [`VARIABLE`] names, checked to hold `data/`.
pub fn folder() -> Result<PathBuf, DataError> {
    checked_folder(std::env::var_os(VARIABLE))
}

fn checked_folder(value: Option<OsString>) -> Result<PathBuf, DataError> {
    let path = PathBuf::from(value.filter(|v| !v.is_empty()).ok_or(DataError::NoFolder)?);
    if path.join("data").is_dir() { Ok(path) } else { Err(DataError::NotTheFolder { path }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unset_and_an_empty_variable_are_the_same_error() {
        assert!(matches!(checked_folder(None), Err(DataError::NoFolder)));
        assert!(matches!(checked_folder(Some("".into())), Err(DataError::NoFolder)));
    }

    #[test]
    fn a_folder_without_data_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let value = || Some(folder.path().as_os_str().to_owned());
        assert!(matches!(checked_folder(value()), Err(DataError::NotTheFolder { .. })));
        std::fs::create_dir(folder.path().join("data")).expect("a sub-folder");
        assert_eq!(checked_folder(value()).expect("it holds data/"), folder.path());
    }
}
