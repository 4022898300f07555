//! The sample pictures are written whole, once, and are what they say.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use image::{DynamicImage, GenericImageView as _, ImageReader};

fn open(path: &std::path::Path) -> DynamicImage {
    ImageReader::open(path).unwrap().with_guessed_format().unwrap().decode().unwrap()
}

#[test]
fn every_sample_is_a_picture_with_detail() {
    let folder = tempfile::tempdir().unwrap();
    let names = devstack::samples::write(&folder.path().join("new")).unwrap();
    assert_eq!(names, ["beach.jpg", "mountains.jpg", "portrait.jpg", "logo.png"]);

    for name in names {
        let picture = open(&folder.path().join("new").join(name)).to_rgb8();
        let mut seen = std::collections::HashSet::new();
        seen.extend(picture.pixels().step_by(97).map(|pixel| pixel.0));
        assert!(seen.len() > 500, "{name} has only {} colours", seen.len());
    }
    assert_eq!(open(&folder.path().join("new/beach.jpg")).dimensions(), (1600, 1067));
    // Stored on its side.
    assert_eq!(open(&folder.path().join("new/portrait.jpg")).dimensions(), (1500, 1000));
    let logo = open(&folder.path().join("new/logo.png")).to_rgba8();
    assert_eq!(logo.get_pixel(0, 0).0[3], 0, "the ground is transparent");
    assert!(logo.pixels().any(|pixel| pixel.0[3] == 255), "the logo is not");
}

#[test]
fn a_sample_that_is_there_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["beach.jpg", "mountains.jpg", "portrait.jpg", "logo.png"] {
        std::fs::write(folder.path().join(name), b"mine").unwrap();
    }
    devstack::samples::write(folder.path()).unwrap();
    assert_eq!(std::fs::read(folder.path().join("beach.jpg")).unwrap(), b"mine");
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = devstack::samples::write(&file.join("below")).unwrap_err();
    assert!(format!("{error:#}").contains("below"), "{error:#}");
}
