//! Where results are written: no file of another kind is lost, and a file is there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::files::Kind;

/// What a file holds, as its first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A key or ciphertext.
    Ours(Kind),
    /// A NumPy array.
    Npy,
}

impl Form {
    /// Bytes that decide.
    const FRONT: u64 = 16;

    fn of(front: &[u8]) -> Option<Self> {
        if front.starts_with(b"\x93NUMPY") { Some(Self::Npy) } else { Kind::of(front).map(Self::Ours) }
    }

    fn described(self) -> &'static str {
        match self {
            Self::Ours(kind) => kind.described(),
            Self::Npy => "a NumPy array",
        }
    }
}

/// Where bytes for a path go.
enum Place {
    /// A regular file, symbolic links followed; it may not be there yet.
    File(PathBuf),
    /// A device, pipe or socket: it stays and takes the bytes.
    Through,
}

/// Finds out where a path leads.
fn place(path: &Path) -> io::Result<Place> {
    match fs::metadata(path) {
        Ok(there) if there.is_dir() => Err(ErrorKind::IsADirectory.into()),
        Ok(there) if !there.is_file() => Ok(Place::Through),
        Ok(_) if path.is_symlink() => Ok(Place::File(fs::canonicalize(path)?)),
        Ok(_) => Ok(Place::File(path.into())),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            // Links that end nowhere: the file they name is made. Links in a circle are another error.
            let mut end = path.to_path_buf();
            while let Ok(next) = fs::read_link(&end) {
                end = end.parent().unwrap_or(Path::new("")).join(next);
            }
            Ok(Place::File(end))
        }
        Err(e) => Err(e),
    }
}

/// Whether two paths lead to one place, which need not be there yet.
pub(crate) fn same(a: &Path, b: &Path) -> bool {
    let whole = |path: &Path| {
        let end = match place(path) {
            Ok(Place::File(end)) => end,
            _ => path.into(),
        };
        fs::canonicalize(&end).unwrap_or_else(|_| {
            let parent = end.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let parent = fs::canonicalize(parent).unwrap_or_else(|_| parent.into());
            end.file_name().map_or(parent.clone(), |name| parent.join(name))
        })
    };
    whole(a) == whole(b)
}

/// Refuses a path whose file is neither empty nor of the same form; to be asked before work is done for it.
pub(crate) fn admit(path: &Path, form: Form) -> Result<(), Error> {
    admitted(path, form).map(|_| ())
}

fn admitted(path: &Path, form: Form) -> Result<Place, Error> {
    let place = place(path).map_err(Error::io(path))?;
    if let Place::File(end) = &place
        && end.exists()
    {
        let mut front = vec![];
        let read = File::open(end).and_then(|file| file.take(Form::FRONT).read_to_end(&mut front));
        read.map_err(Error::io(path))?;
        match Form::of(&front) {
            got if got == Some(form) || front.is_empty() => {}
            Some(Form::Ours(Kind::SecretKey)) => return Err(Error::SecretExists { path: path.into() }),
            _ => return Err(Error::OutputExists { path: path.into(), wanted: form.described() }),
        }
    }
    Ok(place)
}

/// Writes a file of the form: beside its path, then renamed, if the path is or will be a regular file.
pub(crate) fn write(path: &Path, form: Form, parts: &[&[u8]]) -> Result<(), Error> {
    let written = match admitted(path, form)? {
        Place::File(end) => replace(&end, form == Form::Ours(Kind::SecretKey), parts),
        Place::Through => OpenOptions::new().write(true).open(path).and_then(|mut file| write_all(&mut file, parts)),
    };
    written.map_err(Error::io(path))
}

fn write_all(file: &mut File, parts: &[&[u8]]) -> io::Result<()> {
    parts.iter().try_for_each(|part| file.write_all(part))
}

fn replace(end: &Path, private: bool, parts: &[&[u8]]) -> io::Result<()> {
    let mut name = end.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = end.with_file_name(name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if private {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    let mut file = options.open(&part)?;
    let written = write_all(&mut file, parts).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&part, end));
    written.inspect_err(|_| {
        // Best effort: the error that matters is the one reported.
        let _ = fs::remove_file(&part);
    })
}
