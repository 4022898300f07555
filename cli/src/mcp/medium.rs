//! What tools tell of media: what an assistant can use, out of what the API tells.

use rmcp::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A medium: something that was uploaded.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Medium {
    /// Its unchanging id.
    pub id: String,
    /// Its name in URLs.
    pub public_id: String,
    /// image, video, audio, document or file.
    pub kind: String,
    /// ready, or where its bytes are: quarantined, as they have not passed their checks yet, and rejected, as they have not passed, are not served.
    pub state: String,
    /// How its bytes have fared in their checks; absent where there were none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scan: Option<Scan>,
    /// Its content type.
    pub content_type: String,
    /// Its size.
    pub bytes: u64,
    /// Pixels, of an image.
    pub width: Option<u32>,
    /// Pixels, of an image.
    pub height: Option<u32>,
    /// The folder that it is in; empty is the top.
    pub folder: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// What else is said of it.
    pub metadata: Map<String, Value>,
    /// The name of the file that it was.
    pub filename: Option<String>,
    /// When it will be deleted, if ever.
    pub expires_at: Option<String>,
    /// When it was uploaded.
    pub created_at: String,
    /// Where it is delivered, in its own size; the tool delivery_url makes URLs of other renditions.
    pub url: String,
}

/// How bytes have fared in their checks.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Scan {
    /// pending, passed, rejected or unknown.
    pub verdict: String,
    /// Why they were rejected, or let through by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Medium {
    /// Why it is not served; nothing when it is.
    pub fn why_not_served(&self) -> Option<String> {
        match self.state.as_str() {
            "quarantined" => Some("it is quarantined: it is not served before its checks have passed".to_owned()),
            "rejected" => {
                let reason = self.scan.as_ref().and_then(|scan| scan.reason.as_deref()).unwrap_or("no reason is given");
                Some(format!("it is rejected and not served: {reason}"))
            }
            _ => None,
        }
    }
}

/// Media, the newest first.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct MediaPage {
    /// What was found.
    pub items: Vec<Medium>,
    /// Give this as cursor to have what comes after these; absent when there is nothing more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Work that the server does.
#[derive(Debug, Deserialize)]
pub struct Job {
    /// Its id; a medium that comes of a fetch has the same one.
    pub id: String,
    /// Where it is.
    pub state: String,
    /// Why it was not done, the last time.
    pub error: Option<String>,
}

impl Job {
    /// Whether nothing more comes of it.
    pub fn is_over(&self) -> bool {
        matches!(self.state.as_str(), "done" | "failed" | "cancelled")
    }
}
