//! How like two pictures look to people, by SSIMULACRA2: 100 is the same, 90 not told apart, 70 high quality, 50 medium, 30
//! low.

use anyhow::Context;
use image::RgbImage;
use ssimulacra2::{ColorPrimaries, Rgb, TransferCharacteristic, compute_frame_ssimulacra2};

/// The score of `distorted` beside `reference`.
///
/// # Errors
/// When their sizes differ or are too small.
pub fn score(reference: &RgbImage, distorted: &RgbImage) -> anyhow::Result<f64> {
    compute_frame_ssimulacra2(converted(reference)?, converted(distorted)?).context("the pictures cannot be compared")
}

fn converted(picture: &RgbImage) -> anyhow::Result<Rgb> {
    let numbers = picture.pixels().map(|pixel| pixel.0.map(|number| f32::from(number) / 255.0)).collect();
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    Rgb::new(numbers, width, height, TransferCharacteristic::SRGB, ColorPrimaries::BT709)
        .ok()
        .context("a picture has another size than it says")
}

#[cfg(test)]
mod tests {
    use devstack::samples::scene;

    use super::*;

    #[test]
    fn the_same_is_a_hundred_and_noise_costs() {
        let picture = scene::paint(scene::BEACH, 96, 64);
        let mut noisy = picture.clone();
        noisy.pixels_mut().step_by(3).for_each(|pixel| pixel.0 = pixel.0.map(|number| number ^ 16));
        assert!((score(&picture, &picture).expect("compares") - 100.0).abs() < 1e-6);
        assert!(score(&picture, &noisy).expect("compares") < 90.0);
        assert!(score(&picture, &scene::paint(scene::BEACH, 64, 64)).is_err());
    }
}
