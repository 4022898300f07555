//! Undoing a content coding that was not asked for.
//!
//! `identity` is asked for, because pictures are compressed already; some servers compress all the same. Must not make
//! much out of little at once: what comes out of one call is bounded, so that the limit on the body stops a bomb.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::{MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header};

use crate::FetchError;

/// Compressed bytes that are decoded in one step. Deflate makes at most 1032 bytes of one, so a step makes at most 2 MiB.
const STEP_BYTES: usize = 2048;

/// A decoder and what it has yet to read.
pub(crate) struct Decoder {
    coding: Coding,
    input: Bytes,
}

enum Coding {
    // Boxed: their state is tens of kilobytes.
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Deflate(Box<ZlibDecoder<Vec<u8>>>),
}

impl Decoder {
    /// The decoder that an answer needs; `None` if its body is plain.
    ///
    /// # Errors
    /// [`FetchError::Encoding`] for codings that are not understood, and for several on top of each other.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, FetchError> {
        let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(coding) = codings.next() else { return Ok(None) };
        let coding = match (coding.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str(), codings.next()) {
            ("" | "identity", None) => return Ok(None),
            ("gzip" | "x-gzip", None) => Coding::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            ("deflate", None) => Coding::Deflate(Box::new(ZlibDecoder::new(Vec::new()))),
            _ => return Err(FetchError::Encoding { source: "neither gzip nor deflate, or several codings".into() }),
        };
        Ok(Some(Self { coding, input: Bytes::new() }))
    }

    /// Takes compressed bytes; the last ones must have been used up.
    pub(crate) fn feed(&mut self, input: Bytes) {
        self.input = input;
    }

    /// The next decoded bytes; `None` when more input is needed.
    pub(crate) fn step(&mut self) -> Result<Option<Bytes>, FetchError> {
        while !self.input.is_empty() {
            let part = self.input.split_to(STEP_BYTES.min(self.input.len()));
            let decoded = match &mut self.coding {
                Coding::Gzip(decoder) => {
                    decoder.write_all(&part).and_then(|()| decoder.flush()).map(|()| take(decoder.get_mut()))
                }
                Coding::Deflate(decoder) => {
                    decoder.write_all(&part).and_then(|()| decoder.flush()).map(|()| take(decoder.get_mut()))
                }
            };
            let decoded = decoded.map_err(failed)?;
            if !decoded.is_empty() {
                return Ok(Some(decoded));
            }
        }
        Ok(None)
    }

    /// What is left at the end of the input.
    ///
    /// # Errors
    /// [`FetchError::Encoding`] if the compressed stream is not at its end.
    pub(crate) fn finish(&mut self) -> Result<Bytes, FetchError> {
        match &mut self.coding {
            Coding::Gzip(decoder) => decoder.try_finish().map(|()| take(decoder.get_mut())),
            Coding::Deflate(decoder) => decoder.try_finish().map(|()| take(decoder.get_mut())),
        }
        .map_err(failed)
    }
}

fn take(decoded: &mut Vec<u8>) -> Bytes {
    std::mem::take(decoded).into()
}

fn failed(error: io::Error) -> FetchError {
    FetchError::Encoding { source: error.into() }
}
