//! Photographs of the 1000 ImageNet classes: JPEG files of 256×256 pixels, cropped and normalised for each model.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use ndarray::{Array4, ArrayView4, s};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::DataError;
use super::input::{LIMIT, read_to};

/// Side of an image in pixels, before cropping.
pub const SIDE: usize = 256;

/// Classes are 0 to 999.
const GREATEST_CLASS: u16 = 999;

/// Mean and standard deviation per colour (red, green, blue), as torchvision trains.
pub const TORCHVISION: [(f32, f32); 3] = [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)];

/// Mean per channel of SqueezeNet's training, in the order of its input: blue, green, red.
pub const SQUEEZENET: [f32; 3] = [104.0, 117.0, 123.0];

/// Images and their classes.
#[derive(Debug)]
pub struct Images {
    /// Class per image, 0 to 999.
    pub labels: Vec<u16>,
    /// Pixels `[images, side, side, 3]`: red, green, blue.
    pub pixels: Array4<u8>,
}

/// Decodes every `CCCC_*.jpg` of a folder, in the order of the names; `CCCC` is the class.
pub fn read_folder(folder: &Path) -> Result<Images, DataError> {
    let unreadable = |cause| DataError::Unreadable { path: folder.into(), cause };
    let mut files = vec![];
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|e| e == "jpg") {
            files.push(path);
        }
    }
    files.sort();
    let mut pixels = Vec::with_capacity(files.len() * SIDE * SIDE * 3);
    let mut labels = vec![];
    for path in &files {
        labels.push(class_of(path)?);
        pixels.extend(decode(path)?);
    }
    if labels.is_empty() {
        let cause = std::io::Error::new(std::io::ErrorKind::NotFound, "it holds no .jpg");
        return Err(unreadable(cause));
    }
    let pixels = Array4::from_shape_vec((labels.len(), SIDE, SIDE, 3), pixels).expect("each image has this size");
    Ok(Images { labels, pixels })
}

fn class_of(path: &Path) -> Result<u16, DataError> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let class = name.split('_').next().and_then(|c| c.parse().ok()).filter(|c| *c <= GREATEST_CLASS);
    class.ok_or_else(|| DataError::WrongFormat {
        path: path.into(),
        wanted: "an image called CLASS_*.jpg with a class from 0000 to 0999",
        got: "its name has no class".into(),
    })
}

/// The pixels `[256, 256, 3]` of one JPEG file.
fn decode(path: &Path) -> Result<Vec<u8>, DataError> {
    let file = File::open(path).map_err(|cause| DataError::Unreadable { path: path.into(), cause })?;
    let bytes = read_to(path, file, LIMIT)?;
    let wrong = |got: String| DataError::WrongFormat { path: path.into(), wanted: "a 256×256 colour JPEG", got };
    // A hostile header is refused before memory is taken.
    let options =
        DecoderOptions::default().set_max_width(SIDE).set_max_height(SIDE).jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&bytes), options);
    let pixels = decoder.decode().map_err(|e| wrong(e.to_string()))?;
    if decoder.dimensions() != Some((SIDE, SIDE)) || pixels.len() != SIDE * SIDE * 3 {
        return Err(wrong(format!("{:?} pixels", decoder.dimensions())));
    }
    Ok(pixels)
}

/// Images `[images, side, side, 3]` of bytes and their classes from two npy files.
pub fn read_arrays(pixels_at: &Path, labels_at: &Path) -> Result<Images, DataError> {
    let array = |path: &Path, wanted: &'static str| {
        let wrong = |got| DataError::WrongFormat { path: path.into(), wanted, got };
        let whole = |e: &f32| e.fract() == 0.0 && (0.0..=f32::from(u16::MAX)).contains(e);
        match fhe_compiler::data::read_npy(path) {
            // The cast is exact after the check.
            Ok(x) if x.iter().all(whole) => Ok(x.mapv(|e| e as u16)),
            Ok(_) => Err(wrong("it holds other numbers".to_owned())),
            Err(e) => Err(wrong(e.to_string())),
        }
    };
    let wanted = "an array [images, side, side, 3] of bytes";
    let pixels = array(pixels_at, wanted)?;
    let shape = pixels.shape().to_vec();
    let bytes: Option<Vec<u8>> = pixels.iter().map(|&p| u8::try_from(p).ok()).collect();
    let (Some(bytes), &[images, height, width, 3]) = (bytes, &shape[..]) else {
        return Err(DataError::WrongFormat { path: pixels_at.into(), wanted, got: format!("its shape is {shape:?}") });
    };
    let pixels = Array4::from_shape_vec((images, height, width, 3), bytes).expect("as many as before");
    let labels: Vec<u16> = array(labels_at, "a list of classes")?.into_iter().collect();
    if labels.len() != images {
        let (images_at, labels_at): (PathBuf, PathBuf) = (pixels_at.into(), labels_at.into());
        return Err(DataError::OtherLabels { images_at, images, labels_at, labels: labels.len() });
    }
    Ok(Images { labels, pixels })
}

/// The middle `side`×`side` pixels of each image. An odd border is cut as torchvision cuts it: half of it, rounded to even.
///
/// # Panics
/// When an image is smaller.
pub fn centre_crop(pixels: &Array4<u8>, side: usize) -> ArrayView4<'_, u8> {
    let start = |extent: usize| ((extent - side) as f64 / 2.0).round_ties_even() as usize;
    let (y, x) = (start(pixels.dim().1), start(pixels.dim().2));
    pixels.slice(s![.., y..y + side, x..x + side, ..])
}

/// `(x/255 − mean)/sd` per colour: `[images, 3, side, side]` in red, green, blue.
pub fn torchvision(pixels: ArrayView4<'_, u8>) -> Array4<f32> {
    by_channel(pixels, |p, c| super::normalise::standardised(p[c], TORCHVISION[c]))
}

/// Raw pixels minus the mean: `[images, 3, side, side]` in blue, green, red.
pub fn squeezenet(pixels: ArrayView4<'_, u8>) -> Array4<f32> {
    by_channel(pixels, |p, c| f32::from(p[2 - c]) - SQUEEZENET[c])
}

fn by_channel(pixels: ArrayView4<'_, u8>, f: impl Fn([u8; 3], usize) -> f32) -> Array4<f32> {
    let (images, height, width, _) = pixels.dim();
    Array4::from_shape_fn((images, 3, height, width), |(i, c, y, x)| {
        f([0, 1, 2].map(|colour| pixels[[i, y, x, colour]]), c)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture whose red is the row, green the column and blue the image.
    fn picture(images: usize, side: usize) -> Array4<u8> {
        Array4::from_shape_fn((images, side, side, 3), |(i, y, x, c)| [y, x, i][c] as u8)
    }

    #[test]
    fn crops_are_central_and_odd_borders_are_rounded_to_even() {
        let pixels = picture(2, SIDE);
        let crop = centre_crop(&pixels, 224);
        assert_eq!((crop.dim(), crop[[1, 0, 0, 0]], crop[[1, 0, 0, 1]]), ((2, 224, 224, 3), 16, 16));
        assert_eq!(centre_crop(&pixels, 227)[[0, 0, 0, 0]], 14, "29 / 2 is 14.5");
    }

    #[test]
    fn channels_come_in_the_order_of_each_model() {
        let pixels = Array4::from_shape_vec((1, 1, 1, 3), vec![255, 0, 51]).expect("one pixel");
        let x = torchvision(pixels.view());
        assert!((x[[0, 0, 0, 0]] - 2.2489083).abs() < 1e-6, "0.515/0.229");
        assert!((x[[0, 1, 0, 0]] + 2.0357144).abs() < 1e-6, "-0.456/0.224");
        assert_eq!(squeezenet(pixels.view()).into_raw_vec_and_offset().0, [51.0 - 104.0, -117.0, 255.0 - 123.0]);
    }

    #[test]
    fn damaged_pictures_and_names_without_a_class_are_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(matches!(read_folder(folder.path()), Err(DataError::Unreadable { .. })));
        for name in ["0001_n.jpg", "1000_n.jpg", "n.jpg"] {
            let path = folder.path().join(name);
            fs::write(&path, b"\xff\xd8\xff\xe0 no picture").expect("a file");
            assert!(matches!(read_folder(folder.path()), Err(DataError::WrongFormat { .. })), "{name}");
            fs::remove_file(path).expect("the file");
        }
    }
}
