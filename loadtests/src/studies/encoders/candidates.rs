//! The encoder settings that are compared: one line each, as libvips' command line has them.

use imaging::EncoderDefaults;

/// How candidates of a family are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Bytes at the score that ours has at this quality, which is our default.
    AtEqualScore(u8),
    /// Bytes alone: nothing is lost.
    Lossless,
    /// Bytes and score: there is no quality to turn.
    BytesAndScore,
}

/// Settings of one encoder.
#[derive(Debug)]
pub struct Family {
    /// For the report.
    pub title: &'static str,
    /// As URLs name it.
    pub format: &'static str,
    /// Whether animations are encoded.
    pub is_animated: bool,
    /// How they are compared.
    pub measure: Measure,
    /// Options that all have.
    pub fixed: &'static str,
    /// Options of each. The first is ours.
    pub candidates: &'static [&'static str],
}

impl Family {
    /// Our default, if there is a quality.
    pub fn quality(&self) -> Option<u8> {
        match self.measure {
            Measure::AtEqualScore(quality) => Some(quality),
            Measure::Lossless | Measure::BytesAndScore => None,
        }
    }

    /// The saver as libvips reads it.
    pub fn saver(&self, candidate: &str, quality: Option<u8>) -> String {
        let quality = quality.map(|quality| format!("Q={quality}")).unwrap_or_default();
        let options: Vec<&str> = [self.fixed, candidate, &quality].into_iter().filter(|o| !o.is_empty()).collect();
        format!(".{}[{}]", self.format, options.join(","))
    }
}

/// Every family, in the order of the report.
pub fn families() -> [Family; 9] {
    let EncoderDefaults { jpeg, webp, avif, jxl, .. } = EncoderDefaults::default();
    let still = |title, format, measure, fixed, candidates| Family {
        title,
        format,
        is_animated: false,
        measure,
        fixed,
        candidates,
    };
    let moving = |title, format, measure, candidates| Family {
        is_animated: true,
        ..still(title, format, measure, "", candidates)
    };
    [
        still("JPEG by libjpeg, which we do not use", "jpeg", Measure::AtEqualScore(jpeg), "", &JPEG),
        still("WebP", "webp", Measure::AtEqualScore(webp), "", &WEBP),
        still("AVIF", "avif", Measure::AtEqualScore(avif), "compression=av1,bitdepth=8", &AVIF),
        still("JPEG XL", "jxl", Measure::AtEqualScore(jxl), "", &JXL),
        still("PNG", "png", Measure::Lossless, "", &PNG),
        still("WebP without loss", "webp", Measure::Lossless, "lossless", &WEBP_LOSSLESS),
        still("GIF", "gif", Measure::BytesAndScore, "", &GIF),
        moving("Animated WebP", "webp", Measure::AtEqualScore(webp), &WEBP_MOVING),
        moving("Animated GIF", "gif", Measure::BytesAndScore, &GIF_MOVING),
    ]
}

// All of libjpeg's; ours is jpegli, which this program cannot call. Trellis quantisation and other quantisation tables are of mozjpeg: with libjpeg-turbo they change nothing.
const JPEG: [&str; 5] = [
    "optimize-coding",
    "",
    "optimize-coding,interlace",
    "optimize-coding,subsample-mode=off",
    "optimize-coding,interlace,subsample-mode=off",
];

const WEBP: [&str; 13] = [
    "effort=4,preset=photo",
    "effort=4",
    "effort=0,preset=photo",
    "effort=2,preset=photo",
    "effort=3,preset=photo",
    "effort=5,preset=photo",
    "effort=6,preset=photo",
    "effort=4,preset=picture",
    "effort=4,preset=drawing",
    "effort=2,preset=photo,smart-subsample",
    "effort=4,preset=photo,smart-subsample",
    "effort=4,preset=photo,alpha-q=90",
    "effort=4,preset=photo,alpha-q=80",
];

const AVIF: [&str; 6] = ["effort=1", "effort=0", "effort=2", "effort=3", "effort=4", "effort=1,subsample-mode=off"];

const JXL: [&str; 5] = ["effort=5", "effort=3", "effort=4", "effort=6", "effort=7"];

const PNG: [&str; 10] = [
    "compression=4,filter=all",
    "compression=1,filter=all",
    "compression=3,filter=all",
    "compression=5,filter=all",
    "compression=6,filter=all",
    "compression=9,filter=all",
    "compression=4,filter=none",
    "compression=4,filter=sub",
    "compression=4,filter=up",
    "compression=4,filter=paeth",
];

const WEBP_LOSSLESS: [&str; 7] =
    ["effort=4", "effort=0", "effort=2", "effort=3", "effort=6", "effort=2,Q=20", "effort=4,Q=100"];

const GIF: [&str; 7] = [
    "effort=3,dither=0.5",
    "effort=3",
    "effort=3,dither=0",
    "effort=3,dither=0.75",
    "effort=1,dither=0.5",
    "effort=5,dither=0.5",
    "effort=7,dither=0.5",
];

const WEBP_MOVING: [&str; 11] = [
    "effort=4",
    "effort=0",
    "effort=1",
    "effort=2",
    "effort=3",
    "effort=4,mixed",
    "effort=2,mixed",
    "effort=4,kmin=3,kmax=5",
    "effort=2,min-size",
    "effort=4,preset=photo",
    "effort=4,min-size",
];

const GIF_MOVING: [&str; 7] = [
    "effort=3,dither=0.5",
    "effort=3",
    "effort=3,dither=0",
    "effort=1,dither=0.5",
    "effort=7,dither=0.5",
    "effort=3,dither=0.5,interframe-maxerror=4",
    "effort=3,dither=0.5,interframe-maxerror=8",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn savers_are_written_as_libvips_reads_them() {
        let families = families();
        assert_eq!(families[0].saver("", None), ".jpeg[]");
        assert_eq!(families[2].saver("effort=1", Some(63)), ".avif[compression=av1,bitdepth=8,effort=1,Q=63]");
    }
}
