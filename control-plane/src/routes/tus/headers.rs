//! The headers of tus, read before anything else is.

use rocket::request::{FromRequest, Outcome, Request};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{Object, Type};
use uuid::Uuid;

use super::protocol::VERSION;
use crate::incoming::Checksum;
use crate::openapi::optional;
use crate::problem::ApiError;
use crate::requests::Exchange;

/// Most bytes of `Upload-Metadata`.
const METADATA_BYTES_MAX: usize = 32 * 1024;

/// Most uploads that one is put together of.
const PARTS_MAX: usize = 100;

/// What a client of tus has said.
pub struct TusHeaders {
    /// Where the bytes belong.
    pub offset: Option<u64>,
    /// How many there will be.
    pub length: Option<Length>,
    /// What is said of the file, as it came.
    pub metadata: Option<String>,
    /// What it has to do with other uploads.
    pub concat: Option<Concat>,
    /// What the bytes of this request have to have.
    pub checksum: Option<Checksum>,
    /// Whether bytes of a file come with it.
    pub is_offset_type: bool,
}

/// How many bytes there will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// So many.
    Bytes(u64),
    /// That is told later.
    Later,
}

/// What an upload has to do with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Concat {
    /// It is a part.
    Partial,
    /// It is put together of these.
    Final(Vec<Uuid>),
}

impl Concat {
    /// As the database has it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Partial => "partial",
            Self::Final(_) => "final",
        }
    }

    fn parse(header: &str) -> Option<Self> {
        if header == "partial" {
            return Some(Self::Partial);
        }
        let id = |url: &str| url.rsplit_once("/v1/tus/").and_then(|(_, id)| id.parse().ok());
        let ids: Vec<Uuid> = header.strip_prefix("final;")?.split_ascii_whitespace().map(id).collect::<Option<_>>()?;
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        ((1..=PARTS_MAX).contains(&ids.len()) && distinct.len() == ids.len()).then_some(Self::Final(ids))
    }
}

fn read(request: &Request<'_>) -> Result<TusHeaders, ApiError> {
    let header = |name| request.headers().get_one(name);
    if header("Tus-Resumable") != Some(VERSION) {
        return Err(ApiError::TusVersion);
    }
    let number = |name: &'static str| {
        let number = header(name).map(str::parse).transpose();
        number.map_err(|_| ApiError::field(name, "is a number of bytes"))
    };
    let length = match (number("Upload-Length")?, header("Upload-Defer-Length")) {
        (Some(bytes), None) => Some(Length::Bytes(bytes)),
        (None, Some("1")) => Some(Length::Later),
        (None, None) => None,
        _ => return Err(ApiError::field("Upload-Defer-Length", "is 1, and not together with Upload-Length")),
    };
    let metadata = header("Upload-Metadata").filter(|text| !text.trim().is_empty());
    if metadata.is_some_and(|text| text.len() > METADATA_BYTES_MAX) {
        return Err(ApiError::field("Upload-Metadata", format!("is at most {METADATA_BYTES_MAX} bytes")));
    }
    let why =
        || ApiError::field("Upload-Concat", format!("is partial, or final with 1 to {PARTS_MAX} URLs, each once"));
    Ok(TusHeaders {
        offset: number("Upload-Offset")?,
        length,
        metadata: metadata.map(str::to_owned),
        concat: header("Upload-Concat").map(|text| Concat::parse(text).ok_or_else(why)).transpose()?,
        checksum: header("Upload-Checksum").map(Checksum::parse).transpose()?,
        is_offset_type: header("Content-Type") == Some("application/offset+octet-stream"),
    })
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for TusHeaders {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Exchange::outcome(request, read(request))
    }
}

impl IntoParams for TusHeaders {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = || Object::with_type(Type::String);
        let header = |name, about| optional(name, ParameterIn::Header, about, text());
        vec![
            header("Tus-Resumable", "1.0.0"),
            header("Upload-Offset", "Where the bytes belong"),
            header("Upload-Length", "How many bytes there will be"),
            header("Upload-Defer-Length", "1, where that is told later"),
            header("Upload-Metadata", "What is said of the file"),
            header("Upload-Concat", "What it has to do with other uploads"),
            header("Upload-Checksum", "What the bytes of this request have to have"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_are_named_by_their_urls() {
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(Concat::parse("partial"), Some(Concat::Partial));
        let header = format!("final;/v1/tus/{a} https://api.example/base/v1/tus/{b}");
        assert_eq!(Concat::parse(&header), Some(Concat::Final(vec![a, b])));
        let many: String = (0..101).map(|n| format!(" /v1/tus/{}", Uuid::from_u128(n))).collect();
        let twice = format!("final;/v1/tus/{a} /v1/tus/{a}");
        for bad in ["", "final", "final;", "final;/v1/tus/x", "final;x", "Partial", &format!("final;{many}"), &twice] {
            assert_eq!(Concat::parse(bad), None, "{bad}");
        }
    }
}
