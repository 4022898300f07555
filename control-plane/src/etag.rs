//! Conditions on the version of what is changed (RFC 9110, section 13).
//!
//! Resources have a version that grows with each change, and it is their entity tag.

use rocket::request::{FromRequest, Outcome, Request};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{Object, Type};

use crate::openapi::optional;
use crate::problem::ApiError;
use crate::requests::Exchange;

/// The entity tag of a version.
pub fn etag(version: i64) -> String {
    format!("\"v{version}\"")
}

/// What a change is to depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    None,
    /// That there is one, of whatever version.
    Exists,
    /// That there is none.
    IsNew,
    /// That it is of this version.
    Version(i64),
}

impl IntoParams for Condition {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = || Object::with_type(Type::String);
        vec![
            optional("If-Match", ParameterIn::Header, "Only if it is of this version, or, `*`, there is one", text()),
            optional("If-None-Match", ParameterIn::Header, "`*`: only if there is none", text()),
        ]
    }
}

impl Condition {
    fn parse(if_match: Option<&str>, if_none_match: Option<&str>) -> Result<Self, ApiError> {
        match (if_match, if_none_match) {
            (None, None) => Ok(Self::None),
            (Some("*"), None) => Ok(Self::Exists),
            (None, Some("*")) => Ok(Self::IsNew),
            (Some(tag), None) => {
                let version = tag.strip_prefix("\"v").and_then(|rest| rest.strip_suffix('"')?.parse().ok());
                version.map(Self::Version).ok_or(ApiError::BadCondition("If-Match"))
            }
            (_, Some(_)) => Err(ApiError::BadCondition("If-None-Match")),
        }
    }

    /// Holds it against what there is now.
    ///
    /// # Errors
    /// [`ApiError::Changed`].
    pub fn check(self, version: Option<i64>) -> Result<(), ApiError> {
        let holds = match self {
            Self::None => true,
            Self::Exists => version.is_some(),
            Self::IsNew => version.is_none(),
            Self::Version(wanted) => version == Some(wanted),
        };
        if holds { Ok(()) } else { Err(ApiError::Changed) }
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Condition {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let header = |name| request.headers().get_one(name);
        Exchange::outcome(request, Self::parse(header("If-Match"), header("If-None-Match")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_read_and_held_against_the_version() {
        for (if_match, if_none_match, new, first, second) in [
            (None, None, true, true, true),
            (Some("*"), None, false, true, true),
            (None, Some("*"), true, false, false),
            (Some("\"v1\""), None, false, true, false),
        ] {
            let condition = Condition::parse(if_match, if_none_match).expect("is one");
            for (version, holds) in [(None, new), (Some(1), first), (Some(2), second)] {
                assert_eq!(condition.check(version).is_ok(), holds, "{condition:?} and {version:?}");
            }
        }
        assert_eq!(etag(7), "\"v7\"");
        for bad in ["v1", "\"1\"", "W/\"v1\"", "\"v1\", \"v2\"", "", "\"vx\""] {
            assert!(Condition::parse(Some(bad), None).is_err(), "{bad}");
        }
        assert!(Condition::parse(None, Some("\"v1\"")).is_err() && Condition::parse(Some("*"), Some("*")).is_err());
    }
}
