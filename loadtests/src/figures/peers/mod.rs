//! Misses beside other image servers: CPU time, bytes, looks and memory of one rendition, at several qualities of each.
//!
//! The same number of quality does not look the same from two encoders, so what has a goal is compared at equal score.

mod equal;
mod field;
mod pages;
mod verdict;

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use bytes::Bytes;
use image::{RgbImage, RgbaImage};
use serde::Serialize;

use self::field::{Case, Field, Setting};
use crate::bench::Bench;
use crate::darkroom::Darkroom;
use crate::peers::Place;
use crate::pictures::{self, CUT_OUT, LARGE, PHOTO};
use crate::reference::{self, Light};
use crate::report::{Figure, Row};
use crate::score::score;

/// The box that renditions fit into.
pub const BOX: u32 = 512;

/// Clients that ask at the same time; more than can be served at once, so that nothing waits for them.
const CLIENTS: usize = 4;

/// The quality that contenders are shown at beside each other.
const QUALITY: u8 = 80;

const CASES: [Case; 5] = [
    Case { name: "JPEG → JPEG", file: "jpeg-jpeg", source: PHOTO, format: "jpeg" },
    Case { name: "JPEG → WebP", file: "jpeg-webp", source: PHOTO, format: "webp" },
    Case { name: "alpha PNG → WebP", file: "png-webp", source: CUT_OUT, format: "webp" },
    Case { name: "24 MP JPEG → JPEG", file: "large-jpeg", source: LARGE, format: "jpeg" },
    Case { name: "JPEG → AVIF", file: "jpeg-avif", source: PHOTO, format: "avif" },
];

/// All that a case found.
#[derive(Debug, Serialize)]
struct Found {
    case: &'static str,
    #[serde(skip)]
    file: &'static str,
    #[serde(skip)]
    format: &'static str,
    contenders: Vec<Contender>,
    /// Who could not take part, and why.
    missing: Vec<(&'static str, String)>,
}

/// What one contender did.
#[derive(Debug, Serialize)]
struct Contender {
    name: &'static str,
    role: Role,
    /// The most memory that it had in all that it did.
    peak_bytes: f64,
    tries: Vec<Try>,
}

/// What a contender is here for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    Ours,
    /// Ours where it answers fast first, and makes it smaller later: the first answers.
    OurFirst,
    /// A loop without a server.
    Ceiling,
    Peer,
    /// A peer whose pixels are libvips' work.
    LibvipsPeer,
}

impl Role {
    fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::OurFirst)
    }

    fn is_peer(self) -> bool {
        matches!(self, Self::Peer | Self::LibvipsPeer)
    }
}

/// A contender at one setting. Times are those of each round.
#[derive(Debug, Clone, Serialize)]
struct Try {
    setting: Setting,
    bytes: f64,
    /// SSIMULACRA2 beside the references of linear light and of sRGB.
    scores: [f64; 2],
    cpu_ms: Vec<f64>,
    per_second: Vec<f64>,
}

impl Contender {
    /// What it did at this setting.
    fn at(&self, setting: Setting) -> Option<&Try> {
        self.tries.iter().find(|tried| tried.setting == setting)
    }
}

pub async fn measure(bench: &Bench) -> anyhow::Result<Figure> {
    pictures::write_large(&bench.photos())?;
    let darkroom = Darkroom::open()?;
    let place = Place::prepare(bench, &[PHOTO, CUT_OUT, LARGE], CLIENTS).await?;
    let mut figure = Figure { method: method(), ..Figure::default() };
    let mut raw = Vec::new();
    for case in &CASES {
        let (found, others) = one(bench, &darkroom, &place, case).await.context(case.name)?;
        figure.rows.extend(verdict::rows(&found)?);
        figure.rows.push(others);
        figure.versus.extend(verdict::versus(&found)?);
        figure.sections.push(pages::section(&found)?);
        raw.push(found);
    }
    // What has a goal comes first.
    figure.rows.sort_by_key(|row| !row.has_goal());
    figure.raw = Some(serde_json::to_value(raw)?);
    Ok(figure)
}

async fn one(bench: &Bench, darkroom: &Darkroom, place: &Place, case: &'static Case) -> anyhow::Result<(Found, Row)> {
    let field = Field::gather(bench, place, case).await?;
    let quiet = field.all_rounds().await?;
    let peaks = field.peaks(&quiet.rounds).await?;
    let mut judge = Judge {
        darkroom,
        original: reference::decode(&std::fs::read(bench.photo(case.source))?)?,
        known: BTreeMap::new(),
    };
    let mut contenders: Vec<Contender> = field
        .entrants
        .iter()
        .zip(peaks)
        .map(|(entrant, peak_bytes)| Contender {
            name: entrant.name,
            role: entrant.role,
            peak_bytes,
            tries: Vec::new(),
        })
        .collect();
    for (at, turn) in field.turns.iter().enumerate() {
        let took = || quiet.rounds.iter().map(|round| &round[at]);
        let contender = &mut contenders[turn.entrant];
        contender.tries.push(Try {
            setting: turn.setting,
            bytes: turn.body.len() as f64,
            scores: judge.scores(&turn.body).with_context(|| contender.name)?,
            cpu_ms: took().map(|took| took.cpu * 1e3).collect(),
            per_second: took().map(|took| 1.0 / took.wall).collect(),
        });
    }
    let others = Row::others(&quiet)?.of(case.name);
    let missing = field.stop().await?;
    Ok((Found { case: case.name, file: case.file, format: case.format, contenders, missing }, others))
}

/// Scores renditions of one original.
struct Judge<'a> {
    darkroom: &'a Darkroom,
    original: RgbaImage,
    /// References by size: one engine may round a side up that another rounds down.
    known: BTreeMap<(u32, u32), [RgbImage; 2]>,
}

impl Judge<'_> {
    fn scores(&mut self, rendition: &Bytes) -> anyhow::Result<[f64; 2]> {
        let pixels = self.darkroom.pixels_with_alpha(rendition)?;
        let (width, height) = pixels.dimensions();
        let wanted = f64::from(self.original.height()) * f64::from(BOX) / f64::from(self.original.width());
        ensure!(
            width == BOX && (f64::from(height) - wanted).abs() <= 1.0,
            "a rendition has {width} × {height} pixels and not {BOX} × {wanted:.1}"
        );
        if !self.known.contains_key(&(width, height)) {
            let [linear, srgb] = Light::BOTH.map(|light| reference::resize(&self.original, width, height, light));
            self.known.insert((width, height), [linear?, srgb?]);
        }
        let seen = reference::on_white(&pixels);
        let [linear, srgb] = self.known[&(width, height)].each_ref().map(|reference| score(reference, &seen));
        Ok([linear?, srgb?])
    }
}

fn method() -> Vec<String> {
    vec![
        format!(
            "Every server makes each rendition anew, out of the same originals: ours and the others out of a folder, imgforge, which \
             reads none, from a web server on the other core. {CLIENTS} clients ask at the same time, and the server has one core. \
             Ours is all of it, with the caches in memory and on disk; the others have no cache, or it is off."
        ),
        format!(
            "Renditions fit into {BOX} × {BOX} pixels. Servers run with the settings in loadtests/peers, which are those that their \
             documentation recommends; the number of quality is part of each request. The ceilings are loops of plain libvips calls \
             in one process (loadtests/ceiling/ceiling.c), on the system's libvips and, where imgforge got a newer one, on that."
        ),
        "Scores are SSIMULACRA2 (ssimulacra2 0.5) on white, beside two references without loss, which this crate makes by itself \
         (src/reference.rs): the whole original resized by Lanczos3 in numbers of 64 bits, once in linear light and once in sRGB. \
         Renditions are decoded by libvips."
            .to_owned(),
        "At equal score: of a contender's qualities, the lowest whose renditions score no less than the peer's at quality 80 beside both \
         references. What lies between two qualities is on straight lines: scores and CPU time, and the logarithm of bytes. Who \
         scores higher at its lowest quality is taken at that one."
            .to_owned(),
        "With improve_when_idle, a tenant's WebP is answered fast first, and made smaller in idle time once it is asked for again \
         (docs/policy.md); here each is asked for once, and what is shown is the first answer. What comes of the later one is the \
         figure \"later\"."
            .to_owned(),
        "Memory is VmHWM of all processes of a server, added up, after all that the case asked of it; of the ceilings, the most of any run. \
         Ours has, in addition, the bodies that it holds for the kernel to send, and a goal of what the leanest peer with libvips takes, and our cache in memory."
            .to_owned(),
    ]
}
