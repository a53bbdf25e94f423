//! Which sets are written, from which files, in which shapes.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use ndarray::{Array1, Array4, ArrayBase, Data, Dimension, s};
use ndarray_npy::{WritableElement, WriteNpyError, WriteNpyExt};

use super::DataError;
use super::cifar;
use super::idx;
use super::imagenet::{self, Images};
use super::input::{LIMIT, open, read_to};
use super::normalise;

/// From the pixels of so many images to rows.
type Normalise = fn(usize, &[u8]) -> Array4<f32>;

/// Training rows for calibration.
const CALIBRATION: usize = 2000;

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Where.
    pub path: PathBuf,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// What can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Set {
    /// Digits of 28×28 pixels.
    Mnist,
    /// Photographs of 32×32 pixels.
    Cifar10,
    /// Photographs of 224×224 and 227×227 pixels: 1.5 GB.
    Imagenet,
    /// Packed models, unpacked.
    Models,
}

impl Set {
    /// Every set, in the order in which they are written.
    pub const ALL: [Set; 4] = [Set::Mnist, Set::Cifar10, Set::Imagenet, Set::Models];
}

/// Writes the sets below `out` from the files below `folder`, and says so file by file.
///
/// | Folder | Files | Rows |
/// |---|---|---|
/// | `mnist-lenet` | `test_x`, `test_y`, `calibration_x`, `calibration_y` | `[rows, 1, 32, 32]` |
/// | `mnist-flat` | the same | `[rows, 784]` in 0 to 1 |
/// | `cifar10-resnet` | the same, and `test1000_x`, `test1000_y` | `[rows, 3, 32, 32]` |
/// | `cifar10-cnv` | the same as `cifar10-resnet` | the same, whole multiples of 1/128 in -1 to 127/128 |
/// | `cifar10-raw` | the same | the same, 0 to 255 |
/// | `cifar10-int8` | the same | the same, -128 to 127 |
/// | `imagenet-224` | the same without `test1000`, and `exact50_x`, `exact50_y` | `[rows, 3, 224, 224]` |
/// | `imagenet-squeezenet` | the same as `imagenet-224` without `exact50` | `[rows, 3, 227, 227]` |
/// | `models` | every `data/*/*.onnx.gz`, unpacked | |
///
/// `x` is float32, `y` int64. A file appears under its name only when it is whole. Calibration rows of ImageNet are every
/// tenth of the test rows, from the sixth on: no other pictures are at hand.
pub fn prepare(folder: &Path, out: &Path, sets: &[Set], mut say: impl FnMut(&Written)) -> Result<(), DataError> {
    for set in sets {
        match set {
            Set::Mnist => mnist(&folder.join("data/mnist"), out, &mut say)?,
            Set::Cifar10 => cifar10(&folder.join("data/cifar10"), out, &mut say)?,
            Set::Imagenet => imagenet(&folder.join("data/imagenet-sample-1000"), out, &mut say)?,
            Set::Models => models(&folder.join("data"), &out.join("models"), &mut say)?,
        }
    }
    Ok(())
}

fn mnist(from: &Path, out: &Path, say: &mut impl FnMut(&Written)) -> Result<(), DataError> {
    for (split, prefix, most) in [("test", "t10k", usize::MAX), ("calibration", "train", CALIBRATION)] {
        let (pixels, labels) = mnist_rows(from, prefix, most)?;
        let images = labels.len();
        for (set, x) in [
            ("mnist-lenet", normalise::lenet(images, &pixels).into_dyn()),
            ("mnist-flat", normalise::unit(images, &pixels).into_dyn()),
        ] {
            say(&write(&out.join(set), &format!("{split}_x"), &x)?);
            say(&write(&out.join(set), &format!("{split}_y"), &classes(&labels))?);
        }
    }
    Ok(())
}

/// Pixels and labels of the first rows, `most` at most.
fn mnist_rows(from: &Path, prefix: &str, most: usize) -> Result<(Vec<u8>, Vec<u8>), DataError> {
    let images_at = from.join(format!("{prefix}-images-idx3-ubyte.gz"));
    let labels_at = from.join(format!("{prefix}-labels-idx1-ubyte.gz"));
    let mut images = idx::read(&images_at, 3, open(&images_at)?)?;
    let mut labels = idx::read(&labels_at, 1, open(&labels_at)?)?;
    if images.extents[1..] != [28, 28] {
        let got = format!("its images are {:?}", &images.extents[1..]);
        return Err(DataError::WrongFormat { path: images_at, wanted: "a file of 28×28 images", got });
    }
    if images.rows() != labels.rows() {
        let (images, labels) = (images.rows(), labels.rows());
        return Err(DataError::OtherLabels { images_at, images, labels_at, labels });
    }
    if let Some(row) = labels.bytes.iter().position(|&y| y > 9) {
        return Err(DataError::NoSuchClass { path: labels_at, row, got: labels.bytes[row], greatest: 9 });
    }
    labels.bytes.truncate(most);
    images.bytes.truncate(784 * labels.bytes.len());
    Ok((images.bytes, labels.bytes))
}

fn cifar10(from: &Path, out: &Path, say: &mut impl FnMut(&Written)) -> Result<(), DataError> {
    for (split, file) in
        [("test1000", "test_first1000.bin"), ("calibration", "train_first2000.bin"), ("test", "test_batch.bin.gz")]
    {
        let path = from.join(file);
        let records = cifar::read(&path, open(&path)?)?;
        let images = records.labels.len();
        // One large array at a time.
        let sets: [(&str, Normalise); 4] = [
            ("cifar10-resnet", normalise::resnet),
            ("cifar10-cnv", normalise::cnv),
            ("cifar10-raw", normalise::raw),
            ("cifar10-int8", normalise::int8),
        ];
        for (set, normalised) in sets {
            say(&write(&out.join(set), &format!("{split}_x"), &normalised(images, &records.pixels))?);
            say(&write(&out.join(set), &format!("{split}_y"), &classes(&records.labels))?);
        }
    }
    Ok(())
}

fn imagenet(from: &Path, out: &Path, say: &mut impl FnMut(&Written)) -> Result<(), DataError> {
    let images = imagenet::read_folder(&from.join("jpg256"))?;
    let exact = imagenet::read_arrays(&from.join("exact_u8_50x224x224x3.npy"), &from.join("exact_labels_50.npy"))?;
    let (torchvision, squeezenet) = (out.join("imagenet-224"), out.join("imagenet-squeezenet"));
    // One large array at a time.
    photographs(&images, &squeezenet, |i| imagenet::squeezenet(imagenet::centre_crop(i, 227)), say)?;
    photographs(&images, &torchvision, |i| imagenet::torchvision(imagenet::centre_crop(i, 224)), say)?;
    say(&write(&torchvision, "exact50_x", &imagenet::torchvision(exact.pixels.view()))?);
    say(&write(&torchvision, "exact50_y", &classes(&exact.labels))?);
    Ok(())
}

/// Writes all images as test rows and every tenth, from the sixth on, as calibration rows.
fn photographs(
    images: &Images,
    out: &Path,
    normalise: impl Fn(&Array4<u8>) -> Array4<f32>,
    say: &mut impl FnMut(&Written),
) -> Result<(), DataError> {
    let x = normalise(&images.pixels);
    // Images are at least one.
    let first = 5.min(images.labels.len() - 1);
    let tenth: Vec<u16> = images.labels.iter().copied().skip(first).step_by(10).collect();
    say(&write(out, "test_x", &x)?);
    say(&write(out, "test_y", &classes(&images.labels))?);
    say(&write(out, "calibration_x", &x.slice(s![first..;10, .., .., ..]))?);
    say(&write(out, "calibration_y", &classes(&tenth))?);
    Ok(())
}

/// Unpacks every `*/*.onnx.gz`.
fn models(from: &Path, out: &Path, say: &mut impl FnMut(&Written)) -> Result<(), DataError> {
    for folder in files_of(from)?.into_iter().filter(|f| f.is_dir()) {
        for path in files_of(&folder)?.into_iter().filter(|p| p.to_string_lossy().ends_with(".onnx.gz")) {
            let bytes = read_to(&path, open(&path)?, LIMIT)?;
            if bytes.len() as u64 > LIMIT {
                let (got, wanted) = (format!("more than {LIMIT} bytes"), format!("at most {LIMIT}"));
                return Err(DataError::WrongLength { path, got, wanted });
            }
            let to = out.join(path.file_stem().unwrap_or_default());
            write_file(&to, |file| file.write_all(&bytes))?;
            say(&Written { path: to, shape: vec![bytes.len()] });
        }
    }
    Ok(())
}

/// What a folder holds, by name.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let unreadable = |cause| DataError::Unreadable { path: folder.into(), cause };
    let entries = fs::read_dir(folder).map_err(unreadable)?;
    let mut paths: Vec<_> = entries.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>().map_err(unreadable)?;
    paths.sort();
    Ok(paths)
}

fn classes<T: Copy + Into<i64>>(labels: &[T]) -> Array1<i64> {
    labels.iter().map(|&y| y.into()).collect()
}

fn write<A, S, D>(folder: &Path, name: &str, array: &ArrayBase<S, D>) -> Result<Written, DataError>
where
    A: WritableElement,
    S: Data<Elem = A>,
    D: Dimension,
{
    let path = folder.join(name).with_extension("npy");
    write_file(&path, |file| {
        array.write_npy(file).map_err(|error| match error {
            WriteNpyError::Io(error) => error,
            other => io::Error::other(other),
        })
    })?;
    Ok(Written { path, shape: array.shape().to_vec() })
}

/// Writes under another name first: the file appears when it is whole.
fn write_file(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<(), DataError> {
    let part = path.with_added_extension("part");
    let written = || -> io::Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        let mut file = BufWriter::new(File::create(&part)?);
        fill(&mut file)?;
        file.flush()?;
        drop(file);
        fs::rename(&part, path)
    };
    written().map_err(|cause| DataError::Unwritable { path: path.into(), cause })
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayD;
    use ndarray_npy::read_npy;

    use super::*;

    fn idx_gz(path: &Path, extents: &[u32], bytes: impl Iterator<Item = u8>) {
        let file = File::create(path).expect("a file");
        let mut packer = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        packer.write_all(&[0, 0, 8, extents.len() as u8]).expect("room");
        extents.iter().for_each(|e| packer.write_all(&e.to_be_bytes()).expect("room"));
        packer.write_all(&bytes.collect::<Vec<_>>()).expect("room");
        packer.finish().expect("room");
    }

    fn mnist_folder(images: u32, labels: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for prefix in ["t10k", "train"] {
            let at = |kind: &str| folder.path().join(format!("{prefix}-{kind}-ubyte.gz"));
            idx_gz(&at("images-idx3"), &[images, 28, 28], (0..images * 784).map(|i| (i / 784) as u8));
            idx_gz(&at("labels-idx1"), &[labels], (0..labels).map(|i| (i % 10) as u8));
        }
        folder
    }

    #[test]
    fn mnist_is_written_in_both_forms() {
        let (from, out) = (mnist_folder(3, 3), tempfile::tempdir().expect("a temporary folder"));
        let mut said = vec![];
        mnist(from.path(), out.path(), &mut |w: &Written| said.push(w.clone())).expect("sound files");
        assert_eq!(said.len(), 8);
        assert!(said.iter().all(|w| w.path.is_file()));
        let lenet: Array4<f32> = read_npy(out.path().join("mnist-lenet/test_x.npy")).expect("an array");
        let flat: ArrayD<f32> = read_npy(out.path().join("mnist-flat/test_x.npy")).expect("an array");
        let y: Array1<i64> = read_npy(out.path().join("mnist-flat/calibration_y.npy")).expect("an array");
        assert_eq!((lenet.shape(), flat.shape()), (&[3, 1, 32, 32][..], &[3, 784][..]));
        assert_eq!(flat.slice(s![2, ..]).to_vec(), vec![2.0 / 255.0; 784]);
        assert_eq!(y.to_vec(), [0, 1, 2]);
    }

    #[test]
    fn labels_of_another_split_are_refused() {
        let (from, out) = (mnist_folder(3, 4), tempfile::tempdir().expect("a temporary folder"));
        let error = mnist(from.path(), out.path(), &mut |_: &Written| {});
        assert!(matches!(error, Err(DataError::OtherLabels { images: 3, labels: 4, .. })));
    }

    #[test]
    fn calibration_takes_the_first_rows() {
        let from = mnist_folder(5, 5);
        let (pixels, labels) = mnist_rows(from.path(), "train", 2).expect("sound files");
        assert_eq!((pixels.len(), labels), (2 * 784, vec![0, 1]));
    }

    #[test]
    fn a_missing_file_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let error = prepare(folder.path(), folder.path(), &Set::ALL, |_| {}).expect_err("nothing is there");
        assert!(error.to_string().contains("t10k-images-idx3-ubyte.gz"), "{error}");
    }

    #[test]
    fn models_are_unpacked_under_their_own_names() {
        let (from, out) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        fs::create_dir(from.path().join("some")).expect("a folder");
        let file = File::create(from.path().join("some/net.onnx.gz")).expect("a file");
        let mut packer = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        packer.write_all(b"a model").expect("room");
        packer.finish().expect("room");
        models(from.path(), out.path(), &mut |w: &Written| assert_eq!(w.shape, [7])).expect("a sound file");
        assert_eq!(fs::read(out.path().join("net.onnx")).expect("a file"), b"a model");
    }
}
