//! Pictures that say where and by whom they were taken, with words that a test can look for.

use devstack::samples::exif::Exif;
use image::RgbImage;

use super::{colour, jpeg, png};

/// Words that are in [`tell_tale_jpeg`] and [`tell_tale_png`] and must never be in a rendition.
pub const TELL_TALES: [&str; 3] = ["SECRET-CAMERA", "SECRET-COMMENT", "SECRET-XMP"];

/// Who took [`tell_tale_jpeg`] and [`tell_tale_png`] and whose they are, as their metadata says.
pub const OWNERS: [&str; 2] = ["ARTIST-ANNA", "COPYRIGHT-CORP"];

/// Byte sequences that begin a block of metadata in any of the formats that are written.
pub const MARKERS: [&[u8]; 9] =
    [b"Exif", b"EXIF", b"eXIf", b"ns.adobe.com/xap", b"XMP ", b"ICC_PROFILE", b"iCCP", b"ICCP", b"tEXt"];

/// An EXIF block with a maker, a comment and a place.
pub fn exif() -> Vec<u8> {
    Exif {
        orientation: 1,
        make: Some(TELL_TALES[0].to_owned()),
        description: Some(TELL_TALES[1].to_owned()),
        artist: Some(OWNERS[0].to_owned()),
        copyright: Some(OWNERS[1].to_owned()),
        place: Some((48, 11)),
    }
    .to_bytes()
}

/// A JPEG with EXIF and place, XMP and a profile.
pub fn tell_tale_jpeg(picture: &RgbImage) -> Vec<u8> {
    let extras = jpeg::Extras {
        exif: Some(exif()),
        xmp: Some(format!("<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">{}</x:xmpmeta>", TELL_TALES[2])),
        icc: Some(colour::display_p3()),
        ..jpeg::Extras::default()
    };
    jpeg::rgb(picture, &extras)
}

/// A PNG with EXIF and place, texts and a profile.
pub fn tell_tale_png(picture: &RgbImage) -> Vec<u8> {
    let texts = [("Comment", TELL_TALES[1]), ("XML:com.adobe.xmp", TELL_TALES[2])];
    png::rgb(picture, &png::Extras { icc: Some(colour::display_p3()), exif: Some(exif()), texts: &texts })
}
