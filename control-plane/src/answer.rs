//! What a request that makes something is answered, as bytes: so that it can be kept, and given again.

use std::io::Cursor;

use rocket::Request;
use rocket::http::{ContentType, Status};
use rocket::response::{Responder, Response, Result as Rendered};
use serde::Serialize;

use crate::etag::etag;
use crate::problem::ApiError;

/// That something was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// From 200 to 299.
    pub status: u16,
    /// The entity tag of what was made.
    pub etag: Option<String>,
    /// Where it is.
    pub location: Option<String>,
    /// JSON.
    pub body: Vec<u8>,
    /// There is a secret in it.
    pub is_secret: bool,
    /// It was given before.
    pub is_replay: bool,
}

impl Answer {
    /// A thing of this version was made just now, and is there.
    ///
    /// # Errors
    /// [`ApiError::Internal`] for what is no JSON.
    pub fn created(version: i64, location: String, made: &impl Serialize) -> Result<Self, ApiError> {
        Ok(Self { etag: Some(etag(version)), location: Some(location), ..Self::of(Status::Created, made)? })
    }

    /// A thing without versions was begun just now, and is there.
    ///
    /// # Errors
    /// As [`Self::created`].
    pub fn begun(location: String, begun: &impl Serialize) -> Result<Self, ApiError> {
        Ok(Self { location: Some(location), ..Self::of(Status::Created, begun)? })
    }

    /// The same with another body: what is told, and not kept.
    ///
    /// # Errors
    /// As [`Self::created`].
    pub fn with_body(self, told: &impl Serialize) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(told).map_err(|_| ApiError::Internal)?;
        Ok(Self { body, ..self })
    }

    /// It will be done.
    ///
    /// # Errors
    /// As [`Self::created`].
    pub fn accepted(told: &impl Serialize) -> Result<Self, ApiError> {
        Self::of(Status::Accepted, told)
    }

    /// It will be done, as is told there.
    ///
    /// # Errors
    /// As [`Self::created`].
    pub fn accepted_at(location: String, told: &impl Serialize) -> Result<Self, ApiError> {
        Ok(Self { location: Some(location), ..Self::accepted(told)? })
    }

    /// A thing is of this version now, because of what was done.
    ///
    /// # Errors
    /// As [`Self::created`].
    pub fn changed(version: i64, told: &impl Serialize) -> Result<Self, ApiError> {
        Ok(Self { etag: Some(etag(version)), ..Self::done(told)? })
    }

    /// It is done.
    ///
    /// # Errors
    /// As [`Self::created`].
    pub fn done(told: &impl Serialize) -> Result<Self, ApiError> {
        Self::of(Status::Ok, told)
    }

    fn of(status: Status, told: &impl Serialize) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(told).map_err(|_| ApiError::Internal)?;
        Ok(Self { status: status.code, etag: None, location: None, body, is_secret: false, is_replay: false })
    }

    /// The same, with a secret in it: it is kept sealed only.
    #[must_use]
    pub fn with_secret(self) -> Self {
        Self { is_secret: true, ..self }
    }
}

impl<'r> Responder<'r, 'static> for Answer {
    fn respond_to(self, _: &'r Request<'_>) -> Rendered<'static> {
        let mut response = Response::build();
        response.status(Status::new(self.status)).header(ContentType::JSON);
        response.sized_body(self.body.len(), Cursor::new(self.body));
        if let Some(etag) = self.etag {
            response.raw_header("ETag", etag);
        }
        if let Some(location) = self.location {
            response.raw_header("Location", location);
        }
        if self.is_replay {
            response.raw_header("Idempotency-Replayed", "true");
        }
        response.ok()
    }
}
