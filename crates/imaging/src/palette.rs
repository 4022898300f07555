//! Owns the choice of a few colours that stand for a picture.
//!
//! Colours are grouped by how different they look: k-means in Oklab (B. Ottosson, "A perceptual color space for image
//! processing", 2020). Started from the most frequent colours, not at random: the same picture has the same palette.

use serde::Serialize;

/// Most colours of a palette.
const COLOURS_MAX: usize = 6;
/// Rounds of moving the centres; they settle within a few.
const ROUNDS: usize = 12;
/// Centres nearer to each other than this look alike and become one, in Oklab's units (0.02 is just noticeable).
const ALIKE: f64 = 0.06;
/// Least alpha of a pixel that counts.
const VISIBLE: u8 = 128;

/// A colour and how much of the picture it stands for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PaletteColour {
    /// `#rrggbb`.
    pub colour: String,
    /// Part of the visible pixels, 0 to 1, in hundredths.
    pub share: f64,
}

/// The colours of a picture, the most frequent first; empty if nothing of it is visible.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Palette(pub(crate) Vec<PaletteColour>);

#[derive(Debug, Clone, Copy)]
struct Oklab([f64; 3]);

#[derive(Debug, Clone, Copy)]
struct Cluster {
    centre: Oklab,
    pixels: usize,
}

impl Palette {
    /// The palette of pixels in red, green, blue and alpha.
    pub(crate) fn of(rgba: &[u8]) -> Self {
        let visible: Vec<Oklab> = rgba
            .chunks_exact(4)
            .filter(|pixel| pixel[3] >= VISIBLE)
            .map(|pixel| Oklab::from_srgb([pixel[0], pixel[1], pixel[2]]))
            .collect();
        let mut clusters = merged(settled(start(&visible), &visible));
        clusters.sort_by_key(|cluster| std::cmp::Reverse(cluster.pixels));
        let total = visible.len() as f64;
        let colour = |cluster: &Cluster| {
            let [r, g, b] = cluster.centre.to_srgb();
            let share = (cluster.pixels as f64 / total * 100.0).round() / 100.0;
            PaletteColour { colour: format!("#{r:02x}{g:02x}{b:02x}"), share }
        };
        Self(clusters.iter().map(colour).filter(|colour| colour.share > 0.0).collect())
    }
}

/// Centres to begin with: the first is the mean, each further one the pixel that is farthest from all before.
fn start(pixels: &[Oklab]) -> Vec<Oklab> {
    let mut centres: Vec<Oklab> = mean(pixels.iter().copied()).into_iter().collect();
    while !centres.is_empty() && centres.len() < COLOURS_MAX {
        let farthest = pixels
            .iter()
            .map(|pixel| (nearest(&centres, *pixel).1, *pixel))
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            .filter(|(distance, _)| *distance > ALIKE * ALIKE);
        match farthest {
            Some((_, pixel)) => centres.push(pixel),
            None => break,
        }
    }
    centres
}

fn settled(mut centres: Vec<Oklab>, pixels: &[Oklab]) -> Vec<Cluster> {
    let mut members: Vec<Vec<Oklab>> = Vec::new();
    for _ in 0..ROUNDS {
        members = vec![Vec::new(); centres.len()];
        for pixel in pixels {
            members[nearest(&centres, *pixel).0].push(*pixel);
        }
        for (centre, members) in centres.iter_mut().zip(&members) {
            *centre = mean(members.iter().copied()).unwrap_or(*centre);
        }
    }
    centres.iter().zip(&members).map(|(centre, members)| Cluster { centre: *centre, pixels: members.len() }).collect()
}

/// Clusters that look alike become one.
fn merged(clusters: Vec<Cluster>) -> Vec<Cluster> {
    let mut kept: Vec<Cluster> = Vec::new();
    for cluster in clusters {
        match kept.iter_mut().find(|other| other.centre.distance(cluster.centre) < ALIKE * ALIKE) {
            Some(other) if other.pixels >= cluster.pixels => other.pixels += cluster.pixels,
            Some(other) => *other = Cluster { centre: cluster.centre, pixels: cluster.pixels + other.pixels },
            None => kept.push(cluster),
        }
    }
    kept
}

/// Index of the nearest centre, and its squared distance.
fn nearest(centres: &[Oklab], pixel: Oklab) -> (usize, f64) {
    let distances = centres.iter().enumerate().map(|(index, centre)| (index, centre.distance(pixel)));
    distances.min_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap_or((0, f64::MAX))
}

fn mean(pixels: impl Iterator<Item = Oklab>) -> Option<Oklab> {
    let (mut sum, mut count) = ([0.0; 3], 0_u32);
    for Oklab(channels) in pixels {
        for (sum, channel) in sum.iter_mut().zip(channels) {
            *sum += channel;
        }
        count += 1;
    }
    (count > 0).then(|| Oklab(sum.map(|sum| sum / f64::from(count))))
}

impl Oklab {
    fn from_srgb(srgb: [u8; 3]) -> Self {
        let [r, g, b] = srgb.map(|channel| {
            let value = f64::from(channel) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        });
        let l = (0.412_221_46 * r + 0.536_332_55 * g + 0.051_445_995 * b).cbrt();
        let m = (0.211_903_5 * r + 0.680_699_5 * g + 0.107_396_96 * b).cbrt();
        let s = (0.088_302_46 * r + 0.281_718_85 * g + 0.629_978_7 * b).cbrt();
        Self([
            0.210_454_26 * l + 0.793_617_8 * m - 0.004_072_047 * s,
            1.977_998_5 * l - 2.428_592_2 * m + 0.450_593_7 * s,
            0.025_904_037 * l + 0.782_771_77 * m - 0.808_675_77 * s,
        ])
    }

    fn to_srgb(self) -> [u8; 3] {
        let [lightness, a, b] = self.0;
        let l = (lightness + 0.396_337_78 * a + 0.215_803_76 * b).powi(3);
        let m = (lightness - 0.105_561_346 * a - 0.063_854_17 * b).powi(3);
        let s = (lightness - 0.089_484_18 * a - 1.291_485_5 * b).powi(3);
        let linear = [
            4.076_741_7 * l - 3.307_711_6 * m + 0.230_969_94 * s,
            -1.268_438 * l + 2.609_757_4 * m - 0.341_319_38 * s,
            -0.004_196_086_3 * l - 0.703_418_6 * m + 1.707_614_7 * s,
        ];
        linear.map(|light| {
            let value = if light <= 0.003_130_8 { 12.92 * light } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 };
            // Clamped to 0..=255, so the cast is exact.
            (value * 255.0).round().clamp(0.0, 255.0) as u8
        })
    }

    /// Squared distance.
    fn distance(self, other: Self) -> f64 {
        self.0.iter().zip(other.0).map(|(a, b)| (a - b) * (a - b)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::Palette;

    fn palette(colours: &[([u8; 4], usize)]) -> Vec<(String, f64)> {
        let pixels: Vec<u8> = colours.iter().flat_map(|(colour, count)| colour.repeat(*count)).collect();
        Palette::of(&pixels).0.into_iter().map(|entry| (entry.colour, entry.share)).collect()
    }

    #[test]
    fn the_most_frequent_colour_comes_first() {
        let found = palette(&[([255, 0, 0, 255], 20), ([0, 0, 255, 255], 70), ([255, 255, 255, 255], 10)]);
        let wanted = [("#0000ff", 0.7), ("#ff0000", 0.2), ("#ffffff", 0.1)];
        assert_eq!(found, wanted.map(|(colour, share)| (colour.to_owned(), share)));
    }

    #[test]
    fn what_looks_alike_is_one_colour_and_what_is_invisible_none() {
        let found = palette(&[([10, 120, 60, 255], 50), ([12, 122, 62, 255], 50), ([255, 0, 0, 0], 900)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].1, 1.0);
        assert_eq!(palette(&[([1, 2, 3, 0], 9)]), []);
        assert_eq!(palette(&[]), []);
    }
}
