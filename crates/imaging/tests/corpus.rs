//! Every picture of a folder of real and awkward ones through a set of ops: an answer, never a crash.
//!
//! `CALOTYPE_CORPUS` names the folder; without it there is nothing to test and the fixtures made in code have to do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use imaging::{Class, EncoderDefaults, Engine, EngineOptions, ImagingError, Inputs, Limits};
use transform_url::Ops;

const OPS: [&str; 39] = [
    "f=json",
    "w=100,f=jpeg",
    "w=120,h=90,fit=cover,f=webp",
    "w=120,h=90,fit=cover,g=auto,f=png",
    "w=64,h=64,fit=pad,bg=ff000080,f=png",
    "w=2000,h=2000,fit=contain,f=jpeg,q=50",
    "w=90,h=160,fit=squeeze,f=avif",
    "w=80,rotate=90,flip=h,f=webp",
    "w=80,rotate=33,f=png",
    "rect=0.25;0.25;0.5;0.5,w=50,f=jpeg",
    "rect=1;1;3;3,f=png",
    "w=200,h=200,fit=crop,g=entropy",
    "w=60,trim=10,f=png",
    "w=60,trim=1;1;1;1,f=webp",
    "w=60,blur=2,f=jpeg",
    "w=60,blur=40,f=png",
    "w=60,sharpen=1,f=webp",
    "w=60,brightness=1.2,contrast=0.8,gamma=2,f=jpeg",
    "w=60,saturation=2,f=png",
    "w=60,filter=grayscale,f=jpeg",
    "w=60,filter=sepia,f=webp",
    "w=60,filter=invert,saturation=0.5,f=png",
    "w=60,pixelate=7,f=png",
    "w=60,radius=12,f=webp",
    "w=60,radius=max,border=3;ff0000,f=png",
    "w=60,border=4;00ff0080,f=jpeg",
    "w=60,overlay=o;south-east;3;3;0.3;0.5,f=jpeg",
    "w=60,overlay=o;tile;2;2;0.1,f=png",
    "w=60,page=0,f=jpeg",
    "w=60,page=1,f=png",
    "w=60,anim=false,f=webp",
    "w=60,f=gif",
    "w=60,f=jxl",
    "w=60,metadata=keep,f=jpeg",
    "w=60,metadata=copyright,f=webp",
    "w=60,lossless=true,f=webp",
    "w=60,max-bytes=1500,f=jpeg",
    "f=blurhash",
    "w=40,rotate=90,f=thumbhash",
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn every_picture_gets_an_answer() {
    let Some(folder) = std::env::var_os("CALOTYPE_CORPUS") else { return };
    let mut found = Vec::new();
    files(Path::new(&folder), &mut found);
    assert!(!found.is_empty(), "the corpus is empty");
    let engine = Engine::start(&EngineOptions::default()).unwrap();
    let overlay = Bytes::from(testkit::images::png::rgba(&testkit::images::hard_edged(40, [200, 0, 0], [0; 3])));
    let mut rendered = 0;
    for path in &found {
        let source = Bytes::from(std::fs::read(path).unwrap());
        let inputs = Inputs { source: &source, overlay: Some(&overlay), share: None };
        for ops in OPS {
            let transform = Ops::parse(ops).unwrap().resolve(|_| None).unwrap();
            let limits = Limits { deadline: Some(Instant::now() + Duration::from_secs(30)), ..Limits::default() };
            let answer = engine.render(inputs, &transform, Some(Class::Avif), &EncoderDefaults::default(), &limits);
            match answer {
                Ok(answer) => {
                    assert!(
                        !answer.body.is_empty() && answer.width > 0 && answer.height > 0,
                        "{} {ops}",
                        path.display()
                    );
                    rendered += 1;
                }
                Err(error @ (ImagingError::Library(_) | ImagingError::DeadlineExceeded)) => {
                    panic!("{} {ops}: {error:?}", path.display())
                }
                // The picture's own fault, told as such.
                Err(_) => {}
            }
        }
    }
    assert!(rendered > found.len(), "only {rendered} renditions of {} files", found.len());
}
