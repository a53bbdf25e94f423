//! What can be wrong with a data folder, each error with its place, what was met, what is allowed and what to do.

use std::path::PathBuf;

/// Data that cannot be prepared.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum DataError {
    /// The environment variable is absent.
    #[error("the environment variable FHE_DATA is not set")]
    #[diagnostic(
        code("prepare::no-folder"),
        help(
            "set it to a folder that holds data/mnist/, data/cifar10/ and others; `prepare-data --help` lists the files"
        )
    )]
    NoFolder,
    /// The environment variable names something else.
    #[error("FHE_DATA names {}, which holds no folder data/", path.display())]
    #[diagnostic(code("prepare::not-the-folder"), help("name the folder above data/, not data/ itself"))]
    NotTheFolder {
        /// What it names.
        path: PathBuf,
    },
    /// A file that cannot be opened or read.
    #[error("cannot read {}: {cause}", path.display())]
    #[diagnostic(
        code("prepare::unreadable"),
        help("put the file there, under that name, as its distributor packs it; .gz files stay packed")
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system, or the decompressor, says.
        cause: std::io::Error,
    },
    /// A file that cannot be written.
    #[error("cannot write {}: {cause}", path.display())]
    #[diagnostic(code("prepare::unwritable"), help("choose another folder with --out, or make room"))]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The bytes are not in the format.
    #[error("{} is not {wanted}: {got}", path.display())]
    #[diagnostic(code("prepare::wrong-format"), help("the file is damaged or another one: fetch it again"))]
    WrongFormat {
        /// The file.
        path: PathBuf,
        /// The format.
        wanted: &'static str,
        /// What was met.
        got: String,
    },
    /// More or fewer bytes than the header says, or than the format allows.
    #[error("{} has {got} after unpacking, wanted {wanted}", path.display())]
    #[diagnostic(code("prepare::wrong-length"), help("the file is cut off or another one: fetch it again"))]
    WrongLength {
        /// The file.
        path: PathBuf,
        /// Size found.
        got: String,
        /// Size allowed.
        wanted: String,
    },
    /// Images and labels that do not belong together.
    #[error("{} has {images} images, {} has {labels} labels", images_at.display(), labels_at.display())]
    #[diagnostic(code("prepare::other-labels"), help("fetch both files again, from one place"))]
    OtherLabels {
        /// File of the images.
        images_at: PathBuf,
        /// Number of images.
        images: usize,
        /// File of the labels.
        labels_at: PathBuf,
        /// Number of labels.
        labels: usize,
    },
    /// A label that is no class.
    #[error("{} has the label {got} at row {row}, classes are 0 to {greatest}", path.display())]
    #[diagnostic(code("prepare::no-such-class"), help("the file is damaged or another one: fetch it again"))]
    NoSuchClass {
        /// The file.
        path: PathBuf,
        /// Row of the label.
        row: usize,
        /// The label.
        got: u8,
        /// Greatest class.
        greatest: u8,
    },
}
