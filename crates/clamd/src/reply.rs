//! What the daemon says: one text that ends with a zero.

use time::{OffsetDateTime, PrimitiveDateTime, format_description};

use crate::ClamdError;

/// What a signature is called that says: nobody has looked at all of it (`AlertExceedsMax` of `clamd.conf`).
const LIMIT_EXCEEDED: &str = "Heuristics.Limits.Exceeded";

/// Longest text of the daemon's that is passed on, in characters.
const TEXT_CHARACTERS_MAX: usize = 200;

/// As `ctime(3)` writes times.
const CTIME: &str = "[weekday repr:short] [month repr:short] [day padding:space] [hour]:[minute]:[second] [year]";

/// What the daemon thinks of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It knows nothing bad of them.
    Clean,
    /// They are what this signature describes.
    Found(String),
}

/// Which daemon it is, and what it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Of the program.
    pub program: String,
    /// When its signatures were made; `None` when it has none of ClamAV's own.
    pub signatures: Option<OffsetDateTime>,
}

/// The answer to `INSTREAM`.
pub(crate) fn verdict(reply: &str) -> Result<Verdict, ClamdError> {
    if reply.starts_with("INSTREAM size limit exceeded") {
        return Err(ClamdError::TooLarge);
    }
    let Some(told) = reply.strip_prefix("stream: ") else {
        return Err(reply.strip_suffix(" ERROR").map_or(ClamdError::Nonsense, failed));
    };
    if told == "OK" {
        return Ok(Verdict::Clean);
    }
    let is_name = |name: &&str| !name.is_empty() && !name.contains(char::is_whitespace);
    if let Some(signature) = told.strip_suffix(" FOUND").filter(is_name) {
        let is_beyond = signature.starts_with(LIMIT_EXCEEDED);
        return if is_beyond { Err(ClamdError::TooLarge) } else { Ok(Verdict::Found(shown(signature))) };
    }
    Err(told.strip_suffix(" ERROR").map_or(ClamdError::Nonsense, failed))
}

/// The answer to `VERSION`: `ClamAV 1.4.3/27470/Sat Nov  2 10:37:00 2024`, or without what is after the first slash.
pub(crate) fn version(reply: &str) -> Result<Version, ClamdError> {
    let mut parts = reply.splitn(3, '/');
    let program = parts.next().filter(|program| program.starts_with("ClamAV ")).ok_or(ClamdError::Nonsense)?;
    // The daemon writes its local time without saying which: it is off by hours at most, and matters by days.
    let ctime = format_description::parse_borrowed::<2>(CTIME).expect("the description is one");
    let made = parts.nth(1).and_then(|made| PrimitiveDateTime::parse(made, &ctime).ok());
    Ok(Version { program: shown(program), signatures: made.map(PrimitiveDateTime::assume_utc) })
}

fn failed(text: &str) -> ClamdError {
    ClamdError::Failed(shown(text).into())
}

/// A text of the daemon's, such that it can be shown.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_verdict_or_a_reason_for_none() {
        assert_eq!(verdict("stream: OK").expect("one"), Verdict::Clean);
        let found = verdict("stream: Win.Test.EICAR_HDB-1 FOUND").expect("one");
        assert_eq!(found, Verdict::Found("Win.Test.EICAR_HDB-1".to_owned()));
        for reply in ["INSTREAM size limit exceeded. ERROR", "stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND"] {
            assert!(matches!(verdict(reply), Err(ClamdError::TooLarge)), "{reply}");
        }
        for (reply, text) in [
            ("stream: Can't allocate memory ERROR", "Can't allocate memory"),
            ("Can't create temporary file ERROR", "Can't create temporary file"),
        ] {
            assert!(matches!(verdict(reply), Err(ClamdError::Failed(told)) if told.to_string() == text), "{reply}");
        }
        for reply in
            ["", "OK", "stream: ", "stream: ok", "stream:OK", "stream: OK OK", "stream:  FOUND", "UNKNOWN COMMAND"]
        {
            assert!(matches!(verdict(reply), Err(ClamdError::Nonsense)), "{reply:?}");
        }
    }

    #[test]
    fn what_is_passed_on_is_short_and_can_be_shown() {
        let Ok(Verdict::Found(name)) = verdict(&format!("stream: \u{1b}[1m{} FOUND", "x".repeat(5000))) else {
            panic!("a signature")
        };
        assert_eq!(name.len(), 200);
        assert!(!name.contains('\u{1b}'));
    }

    #[test]
    fn a_version_tells_how_old_its_signatures_are() {
        let told = version("ClamAV 1.4.3/27470/Sat Nov  2 10:37:00 2024").expect("one");
        assert_eq!(told.program, "ClamAV 1.4.3");
        assert_eq!(told.signatures.expect("a time").unix_timestamp(), 1_730_543_820);
        assert_eq!(version("ClamAV 1.4.3").expect("one").signatures, None);
        assert_eq!(version("ClamAV 1.4.3/27470/yesterday").expect("one").signatures, None);
        for reply in ["", "PONG", "HTTP/1.1 400 Bad Request"] {
            assert!(matches!(version(reply), Err(ClamdError::Nonsense)), "{reply}");
        }
    }
}
