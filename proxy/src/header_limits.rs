//! How large a request's header may be, and that no body follows it.
//!
//! Must not know URLs: they have a limit of their own, and refuse by it with the tenant in mind.

use http::{HeaderMap, Method, header};
use pingora_http::RequestHeader;

use crate::problem::EdgeError;

/// What a line of the header has beside its name and value: `: ` and the end of the line.
const LINE_BYTES: usize = 4;

/// The largest header of a request.
#[derive(Debug, Clone, Copy)]
pub struct HeaderLimits {
    /// Bytes of all lines, the request line not included.
    pub bytes: usize,
    /// Lines.
    pub lines: usize,
}

impl HeaderLimits {
    /// Refuses what is larger, and a body that no answer here depends on.
    ///
    /// # Errors
    /// [`EdgeError::HeaderTooLarge`], [`EdgeError::Body`].
    pub fn check(&self, head: &RequestHeader) -> Result<(), EdgeError> {
        if head.headers.len() > self.lines {
            return Err(EdgeError::HeaderTooLarge { limit: self.lines, unit: "lines" });
        }
        let lines = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + LINE_BYTES);
        if lines.sum::<usize>() > self.bytes {
            return Err(EdgeError::HeaderTooLarge { limit: self.bytes, unit: "bytes" });
        }
        if matches!(head.method, Method::GET | Method::HEAD) && announces_body(&head.headers) {
            return Err(EdgeError::Body);
        }
        Ok(())
    }
}

fn announces_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
}
