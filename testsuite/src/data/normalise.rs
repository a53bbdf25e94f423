//! From pixels to the real numbers that each model was trained on.

use ndarray::{Array2, Array4, ArrayView4, s};

/// Mean and standard deviation of MNIST pixels, as the LeNet of `google/heir` was trained.
pub const MNIST: (f32, f32) = (0.1307, 0.3081);

/// Mean and standard deviation per colour, as `akamaster/pytorch_resnet_cifar10` trains (ImageNet's).
pub const RESNET: [(f32, f32); 3] = [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)];

/// Zeros around an MNIST image for LeNet, which takes 32×32.
const LENET_PAD: usize = 2;

/// `x/255` of flattened images: `[images, pixels]`.
///
/// # Panics
/// When `images` does not divide the number of pixels.
pub fn unit(images: usize, pixels: &[u8]) -> Array2<f32> {
    let row = pixels.len() / images;
    Array2::from_shape_fn((images, row), |(i, p)| f32::from(pixels[i * row + p]) / 255.0)
}

/// `(x/255 − mean)/sd` of 28×28 images, then zeros around them: `[images, 1, 32, 32]`.
///
/// The zeros come last: they stand for the mean grey, not for black.
pub fn lenet(images: usize, pixels: &[u8]) -> Array4<f32> {
    let side = 28;
    let mut padded = Array4::zeros((images, 1, side + 2 * LENET_PAD, side + 2 * LENET_PAD));
    let inside = LENET_PAD..LENET_PAD + side;
    let mut middle = padded.slice_mut(s![.., .., inside.clone(), inside]);
    middle.indexed_iter_mut().for_each(|((i, _, y, x), e)| {
        *e = standardised(pixels[(i * side + y) * side + x], MNIST);
    });
    padded
}

/// `(x/255 − mean)/sd` per colour of 32×32 images: `[images, 3, 32, 32]`.
///
/// # Panics
/// When `pixels` is not `[images, 3, 32, 32]`.
pub fn resnet(images: usize, pixels: &[u8]) -> Array4<f32> {
    let pixels = colours(images, pixels);
    Array4::from_shape_fn(pixels.dim(), |(i, c, y, x)| standardised(pixels[[i, c, y, x]], RESNET[c]))
}

/// `clamp(round(128·(2x/255 − 1)), -128, 127)/128` of 32×32 images, as BNN-PYNQ's CNV networks take them.
///
/// # Panics
/// When `pixels` is not `[images, 3, 32, 32]`.
pub fn cnv(images: usize, pixels: &[u8]) -> Array4<f32> {
    let eighth = |p: u8| ((f32::from(p) / 255.0 * 2.0 - 1.0) * 128.0).round_ties_even().clamp(-128.0, 127.0) / 128.0;
    colours(images, pixels).mapv(eighth)
}

/// Pixels as they are, 0 to 255, of 32×32 images.
///
/// # Panics
/// When `pixels` is not `[images, 3, 32, 32]`.
pub fn raw(images: usize, pixels: &[u8]) -> Array4<f32> {
    colours(images, pixels).mapv(f32::from)
}

/// Pixels of 32×32 images minus 128: the codes of an int8 input.
///
/// # Panics
/// When `pixels` is not `[images, 3, 32, 32]`.
pub fn int8(images: usize, pixels: &[u8]) -> Array4<f32> {
    colours(images, pixels).mapv(|p| f32::from(p) - 128.0)
}

fn colours(images: usize, pixels: &[u8]) -> ArrayView4<'_, u8> {
    ArrayView4::from_shape((images, 3, 32, 32), pixels).expect("whole records")
}

/// In f32, in the order of torchvision's `ToTensor` and `Normalize`.
pub(super) fn standardised(pixel: u8, (mean, sd): (f32, f32)) -> f32 {
    (f32::from(pixel) / 255.0 - mean) / sd
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn black_is_not_the_padding_of_lenet() {
        let mut pixels = vec![0; 2 * 784];
        pixels[784] = 255;
        let x = lenet(2, &pixels);
        assert_eq!(x.dim(), (2, 1, 32, 32));
        assert_eq!((x[[0, 0, 0, 0]], x[[0, 0, 1, 31]], x[[0, 0, 30, 5]]), (0.0, 0.0, 0.0));
        assert!((x[[0, 0, 2, 2]] + 0.42421296).abs() < 1e-6, "-0.1307/0.3081");
        assert!((x[[1, 0, 2, 2]] - 2.8214867).abs() < 1e-5, "0.8693/0.3081");
        assert_eq!(x[[1, 0, 2, 3]], x[[0, 0, 29, 29]]);
    }

    #[test]
    fn colours_have_their_own_mean() {
        let mut pixels = vec![0; 3072];
        pixels[2 * 1024 + 33] = 51;
        let x = resnet(1, &pixels);
        assert!((x[[0, 0, 0, 0]] + 2.117_904).abs() < 1e-6, "-0.485/0.229");
        assert!((x[[0, 1, 31, 31]] + 2.0357144).abs() < 1e-6, "-0.456/0.224");
        assert!((x[[0, 2, 1, 1]] + 0.9155556).abs() < 1e-6, "(0.2 - 0.406)/0.225");
    }

    #[test]
    fn unit_rows_lie_in_zero_to_one() {
        assert_eq!(unit(2, &[0, 255, 51, 0]), ndarray::array![[0.0, 1.0], [0.2, 0.0]]);
    }
}
