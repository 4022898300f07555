//! Owns the way from bytes to light and back. Averages of bytes are darker than averages of what they show: a fine white
//! grid on black would lose a third of its light.

use std::sync::LazyLock;

/// Steps of light that the way back tells apart. Near black, neighbouring bytes are three of them apart.
const STEPS: f32 = 65_535.0;

/// What the bytes of a pixel are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channels {
    Grey,
    GreyAlpha,
    Rgb,
    Rgba,
}

impl Channels {
    pub(super) fn new(bands: u32) -> Option<Self> {
        Some(match bands {
            1 => Self::Grey,
            2 => Self::GreyAlpha,
            3 => Self::Rgb,
            4 => Self::Rgba,
            _ => return None,
        })
    }

    pub(super) fn count(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::GreyAlpha => 2,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }
}

/// The light of a channel, 0.0..=1.0: sRGB's curve (IEC 61966-2-1) as a polynomial that is at most 0.003 off, because a
/// power takes too long. What matters is that [`Bytes`] goes exactly the same way back.
#[inline(always)]
fn light(channel: f32) -> f32 {
    channel * (channel * (channel * 0.305_306 + 0.682_171_1) + 0.012_522_9)
}

/// Writes the light of `bytes`, whole pixels, with alpha multiplied in.
#[inline(always)]
pub(super) fn read(bytes: &[u8], channels: Channels, into: &mut [f32]) {
    let part = |byte: u8| f32::from(byte) * (1.0 / 255.0);
    match channels {
        Channels::Grey | Channels::Rgb => {
            for (into, byte) in into.iter_mut().zip(bytes) {
                *into = light(part(*byte));
            }
        }
        Channels::GreyAlpha => {
            for (into, byte) in into.as_chunks_mut::<2>().0.iter_mut().zip(bytes.as_chunks::<2>().0) {
                let alpha = part(byte[1]);
                *into = [light(part(byte[0])) * alpha, alpha];
            }
        }
        Channels::Rgba => {
            for (into, byte) in into.as_chunks_mut::<4>().0.iter_mut().zip(bytes.as_chunks::<4>().0) {
                let part = byte.map(part);
                let alpha = part[3];
                let multiplied = part.map(|part| light(part) * alpha);
                *into = [multiplied[0], multiplied[1], multiplied[2], alpha];
            }
        }
    }
}

/// Writes the light of two rows in half the resolution, each colour into a row of its own. `blue` and `red` are what JFIF
/// says they are (ITU-T T.871 §7): how far those colours differ from the luma, and 128.
#[inline(always)]
pub(super) fn read_halved(luma: [&[u8]; 2], blue: &[u8], red: &[u8], into: [&mut [f32]; 3]) {
    let [upper, lower] = luma.map(|row| row.as_chunks::<2>().0);
    let [reds, greens, blues] = into;
    let colours = reds.iter_mut().zip(greens).zip(blues);
    let sources = upper.iter().zip(lower).zip(blue.iter().zip(red));
    for (((into_red, into_green), into_blue), ((upper, lower), (blue, red))) in colours.zip(sources) {
        let (blue, red) = (f32::from(*blue) - 128.0, f32::from(*red) - 128.0);
        let four = [upper[0], upper[1], lower[0], lower[1]].map(f32::from);
        let mean = |more: f32| {
            let [a, b, c, d] = four.map(|luma| light(((luma + more) * (1.0 / 255.0)).clamp(0.0, 1.0)));
            ((a + b) + (c + d)) * 0.25
        };
        *into_red = mean(1.402 * red);
        *into_green = mean(-0.344_136 * blue - 0.714_136 * red);
        *into_blue = mean(1.772 * blue);
    }
}

/// The bytes of a pixel's light, which has alpha multiplied in.
#[inline(always)]
pub(super) fn write<const CHANNELS: usize>(pixel: [f32; CHANNELS], bytes: &Bytes) -> [u8; CHANNELS] {
    let mut all = [0; CHANNELS];
    if !CHANNELS.is_multiple_of(2) {
        for (byte, light) in all.iter_mut().zip(pixel) {
            *byte = bytes.of(light);
        }
        return all;
    }
    let alpha = pixel[CHANNELS - 1].clamp(0.0, 1.0);
    // What cannot be seen has no colour.
    let by = if alpha > 0.0 { 1.0 / alpha } else { 0.0 };
    for (byte, light) in all.iter_mut().zip(pixel) {
        *byte = bytes.of(light * by);
    }
    // Between 0 and 255 and a half: the cast drops the fraction.
    all[CHANNELS - 1] = (alpha * 255.0 + 0.5) as u8;
    all
}

/// The byte of each step of light.
pub(super) struct Bytes(Box<[u8]>);

impl Bytes {
    /// The one table.
    pub(super) fn get() -> &'static Self {
        static BYTES: LazyLock<Bytes> = LazyLock::new(|| {
            let ends = (0..=u8::MAX).map(|byte| light((f32::from(byte) + 0.5) / 255.0) * STEPS);
            let mut table = Vec::with_capacity(STEPS as usize + 1);
            for (byte, end) in (0..=u8::MAX).zip(ends) {
                let end = (end.ceil() as usize).min(STEPS as usize + 1);
                table.resize(end.max(table.len()), byte);
            }
            Bytes(table.into_boxed_slice())
        });
        &BYTES
    }

    #[inline(always)]
    fn of(&self, light: f32) -> u8 {
        // Not a number becomes zero; everything else is in the table.
        self.0[(light.clamp(0.0, 1.0) * STEPS + 0.5) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        let table = Bytes::get();
        assert_eq!(table.0.len(), STEPS as usize + 1);
        for byte in 0..=u8::MAX {
            let mut grey = [0.0];
            read(&[byte], Channels::Grey, &mut grey);
            assert_eq!(write(grey, table), [byte]);
            for alpha in 1..=u8::MAX {
                let mut pixel = [0.0; 4];
                read(&[byte, 0, 255, alpha], Channels::Rgba, &mut pixel);
                assert_eq!(write(pixel, table), [byte, 0, 255, alpha]);
                let mut pixel = [0.0; 2];
                read(&[byte, alpha], Channels::GreyAlpha, &mut pixel);
                assert_eq!(write(pixel, table), [byte, alpha]);
            }
        }
        assert_eq!(write([0.5, 0.5, 0.5, 0.0], table), [0, 0, 0, 0]);
        assert_eq!(write([f32::NAN, -1.0, 7.0], table), [0, 0, 255]);
    }

    #[test]
    fn light_is_what_srgb_says() {
        for byte in 0..=u8::MAX {
            let channel = f64::from(byte) / 255.0;
            let exact = if channel <= 0.04045 { channel / 12.92 } else { ((channel + 0.055) / 1.055).powf(2.4) };
            assert!((f64::from(light(channel as f32)) - exact).abs() < 0.003, "{byte}");
        }
    }
}
