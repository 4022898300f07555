//! What stands in URLs of ours that are good without a key.

use isolation::TenantKey;
use rocket::request::{FromRequest, Outcome, Request};
use utoipa::IntoParams;

use crate::problem::ApiError;
use crate::requests::{Exchange, query_fields};

/// What makes a URL good.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Pass {
    /// Whose it is.
    #[param(value_type = String)]
    pub tenant: TenantKey,
    /// What it is good for, sealed.
    pub token: String,
}

impl Pass {
    /// That of a request.
    ///
    /// # Errors
    /// [`ApiError::UrlRefused`].
    pub fn of(request: &Request<'_>) -> Result<Self, ApiError> {
        Self::parse(query_fields(request)).ok_or(ApiError::UrlRefused)
    }

    fn parse<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let (mut tenant, mut token) = (None, None);
        for (name, value) in fields {
            match name {
                "tenant" => tenant = Some(value.parse().ok()?),
                "token" => token = Some(value.to_owned()),
                _ => return None,
            }
        }
        Some(Self { tenant: tenant?, token: token? })
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Pass {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Exchange::outcome(request, Self::of(request))
    }
}
