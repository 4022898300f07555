//! `/v1/downloads`: all of a collection or a folder as one archive, with a key or by a link that is good for a while.

use isolation::{Database, Mandate, TenantKey};
use rocket::http::{ContentType, Header};
use rocket::request::{FromRequest, Outcome, Request};
use rocket::response::{Responder, Response, Result as Rendered};
use rocket::{State, get, post};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::pass::Pass;
use super::uploads::Host;
use crate::answer::Answer;
use crate::auth::{self, Caller, Scope};
use crate::body::Body;
use crate::downloads::{Contents, Downloads, Format, LINK_SECONDS_MAX, Source, Wanted};
use crate::idempotency::NotKept;
use crate::incoming::Incoming;
use crate::media;
use crate::problem::ApiError;
use crate::requests::{Exchange, managed, query_fields};
use crate::streamed::streamed;

/// How long a link is good for, unless it is said, in seconds.
const LINK_SECONDS: u32 = 3600;

/// Which archive is wanted.
#[derive(Debug, Default, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DownloadOrder {
    /// The id of a collection: what is in it, in its order.
    collection: Option<Uuid>,
    /// Or the path of a folder; empty is the top.
    folder: Option<String>,
    /// Whether folders within that one belong to it; true if not said.
    subfolders: Option<bool>,
    /// `zip`, if not said, or `tar`.
    format: Option<Format>,
    /// Whether files that cannot be found are left out, and told of in `missing.txt`, instead of the archive being cut off; false if not said.
    skip_missing: Option<bool>,
}

impl DownloadOrder {
    fn parse<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, ApiError> {
        let mut order = Self::default();
        for (name, value) in fields {
            match name {
                "collection" => {
                    let refused = |_| ApiError::field("collection", "is the id of a collection");
                    order.collection = Some(value.parse().map_err(refused)?);
                }
                "folder" => order.folder = Some(value.to_owned()),
                "subfolders" => order.subfolders = Some(truth("subfolders", value)?),
                "format" => {
                    let refused = |()| ApiError::field("format", "is zip or tar");
                    order.format = Some(value.parse().map_err(refused)?);
                }
                "skip_missing" => order.skip_missing = Some(truth("skip_missing", value)?),
                _ => {
                    let known = "only \"collection\", \"folder\", \"subfolders\", \"format\" and \"skip_missing\" are known here";
                    return Err(ApiError::field("query", known));
                }
            }
        }
        Ok(order)
    }

    fn check(&self) -> Result<Wanted, ApiError> {
        let source = match (self.collection, &self.folder) {
            (Some(id), None) if self.subfolders.is_none() => Source::Collection(id),
            (Some(_), None) => return Err(ApiError::field("subfolders", "belongs to \"folder\"")),
            (None, Some(path)) => {
                let path = media::folder(path)?.map(str::to_owned);
                Source::Folder { path, subfolders: self.subfolders.unwrap_or(true) }
            }
            _ => return Err(ApiError::field("collection", "or \"folder\" says what is wanted: one of them")),
        };
        let format = self.format.unwrap_or(Format::Zip);
        Ok(Wanted { source, format, skip_missing: self.skip_missing.unwrap_or_default() })
    }
}

fn truth(name: &'static str, text: &str) -> Result<bool, ApiError> {
    text.parse().map_err(|_| ApiError::field(name, "is true or false"))
}

/// The archive that a query asks for.
pub struct ByQuery(Wanted);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for ByQuery {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let wanted = DownloadOrder::parse(query_fields(request)).and_then(|order| order.check());
        Exchange::outcome(request, wanted.map(Self))
    }
}

/// An archive, sent while it is made.
pub struct Download<'r> {
    downloads: &'r Downloads,
    tenant: TenantKey,
    contents: Contents,
}

impl<'r> Responder<'r, 'r> for Download<'r> {
    fn respond_to(self, request: &'r Request<'_>) -> Rendered<'r> {
        let Self { downloads, tenant, contents } = self;
        let mut response = Response::build();
        response.header(match contents.format {
            Format::Zip => ContentType::ZIP,
            Format::Tar => ContentType::TAR,
        });
        response.header(Header::new("Content-Disposition", disposition(&contents.name, contents.format)));
        response.header(Header::new("Accept-Ranges", "none"));
        response.header(Header::new("Content-Security-Policy", "default-src 'none'; sandbox"));
        if let Some(length) = contents.length() {
            response.header(Header::new("Content-Length", length.to_string()));
        }
        match downloads.send(tenant, contents) {
            Ok(pieces) => streamed(&mut response, pieces),
            Err(error) => return error.respond_to(request),
        }
        response.ok()
    }
}

/// What browsers save the archive as.
fn disposition(name: &str, format: Format) -> String {
    let extension = format.extension();
    let plain: String = name.chars().map(|c| if c.is_ascii() && !matches!(c, '"' | '%') { c } else { '_' }).collect();
    let is_kept = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let encoded: String = name
        .bytes()
        .map(|byte| if is_kept(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    format!("attachment; filename=\"{plain}.{extension}\"; filename*=UTF-8''{encoded}.{extension}")
}

/// Sends a collection or a folder as one archive. Nothing is compressed. What is not served by edges is left out.
#[utoipa::path(
    tag = "downloads",
    security(("tenantKey" = ["media:read"])),
    params(DownloadOrder),
    responses((status = 200, description = "The archive", content_type = "application/zip"))
)]
#[get("/downloads")]
pub async fn get<'r>(
    caller: Caller,
    wanted: ByQuery,
    downloads: &'r State<Downloads>,
    database: &State<Database>,
) -> Result<Download<'r>, ApiError> {
    caller.needs(Scope::MediaRead)?;
    let contents = downloads.contents(&mut caller.read(database).await?, &wanted.0).await?;
    Ok(Download { downloads, tenant: caller.tenant, contents })
}

/// A link that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateLink {
    /// The id of a collection.
    collection: Option<Uuid>,
    /// Or the path of a folder; empty is the top.
    folder: Option<String>,
    /// Whether folders within that one belong to it; true if not said.
    subfolders: Option<bool>,
    /// `zip`, if not said, or `tar`.
    format: Option<Format>,
    /// Whether files that cannot be found are left out; false if not said.
    skip_missing: Option<bool>,
    /// How long it is good for: 1 to 604800, 3600 if not said.
    #[schema(minimum = 1, maximum = 604_800)]
    expires_in_seconds: Option<u32>,
}

/// A link to an archive.
#[derive(Debug, Serialize, ToSchema)]
pub struct Link {
    /// Whoever has it may download the archive, without a key.
    url: String,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    /// How many files there are now.
    files: usize,
    /// Bytes of all of them.
    bytes: u64,
}

/// Makes a link to an archive, for somebody who has no key. What is in it is what there is when it is followed.
#[utoipa::path(
    tag = "downloads",
    security(("tenantKey" = ["media:read"])),
    request_body = CreateLink,
    responses((status = 201, description = "Made", body = Link, headers(("Location" = String, description = "The link"))))
)]
#[post("/downloads", data = "<body>")]
pub async fn create(
    caller: Caller,
    _not_kept: NotKept,
    host: Host,
    body: Body<CreateLink>,
    downloads: &State<Downloads>,
    incoming: &State<Incoming>,
    database: &State<Database>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::MediaRead)?;
    let CreateLink { collection, folder, subfolders, format, skip_missing, expires_in_seconds } = body.into_value();
    let wanted = DownloadOrder { collection, folder, subfolders, format, skip_missing }.check()?;
    let seconds = expires_in_seconds.unwrap_or(LINK_SECONDS);
    if !(1..=LINK_SECONDS_MAX).contains(&seconds) {
        return Err(ApiError::field("expires_in_seconds", format!("is 1 to {LINK_SECONDS_MAX}")));
    }
    let contents = downloads.contents(&mut database.begin(&caller.mandate).await?, &wanted).await?;
    let expires_at = OffsetDateTime::now_utc() + Duration::seconds(seconds.into());
    let token = downloads.token(caller.tenant, &wanted, expires_at)?;
    let url = incoming.url(host.name(), &format!("/v1/downloads/link?tenant={}&token={token}", caller.tenant));
    let link = Link { url: url.clone(), expires_at, files: contents.count(), bytes: contents.bytes };
    Answer::begun(url, &link)
}

/// The archive that a link leads to.
pub struct ByLink {
    tenant: TenantKey,
    wanted: Wanted,
}

async fn by_link(request: &Request<'_>) -> Result<ByLink, ApiError> {
    let downloads = managed::<Downloads>(request)?;
    let link = Pass::of(request).and_then(|Pass { tenant, token }| {
        Ok(ByLink { tenant, wanted: downloads.wanted(tenant, &token, OffsetDateTime::now_utc())? })
    });
    // Reads of the database, too, are what strangers are held to.
    auth::stranger(request)?;
    link
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for ByLink {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Exchange::outcome(request, by_link(request).await)
    }
}

/// Sends the archive that a link leads to.
#[utoipa::path(
    tag = "downloads",
    operation_id = "get_by_link",
    security(("signedUrl" = [])),
    params(Pass),
    responses((status = 200, description = "The archive", content_type = "application/zip"))
)]
#[get("/downloads/link")]
pub async fn get_by_link<'r>(
    link: ByLink,
    downloads: &'r State<Downloads>,
    database: &State<Database>,
) -> Result<Download<'r>, ApiError> {
    let ByLink { tenant, wanted } = link;
    let mut transaction = database.begin(&Mandate::upkeep(tenant)).await?;
    let state = sqlx::query_scalar!("SELECT state FROM tenants").fetch_optional(transaction.connection()).await?;
    if state.as_deref() != Some("active") {
        return Err(ApiError::UrlRefused);
    }
    let contents = downloads.contents(&mut transaction, &wanted).await?;
    Ok(Download { downloads, tenant, contents })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Wanted, ApiError> {
        let fields = query.split('&').filter_map(|field| field.split_once('='));
        DownloadOrder::parse(fields).and_then(|order| order.check())
    }

    #[test]
    fn one_thing_is_wanted() {
        let id = Uuid::from_u128(7);
        let wanted = parse(&format!("collection={id}")).expect("a collection");
        assert_eq!(wanted, Wanted { source: Source::Collection(id), format: Format::Zip, skip_missing: false });
        let wanted = parse("folder=a/b&subfolders=false&format=tar&skip_missing=true").expect("a folder");
        let source = Source::Folder { path: Some("a/b".to_owned()), subfolders: false };
        assert_eq!(wanted, Wanted { source, format: Format::Tar, skip_missing: true });
        let top = parse("folder=").expect("the top");
        assert_eq!(top.source, Source::Folder { path: None, subfolders: true });
        for bad in [
            "format=zip",
            &format!("collection={id}&folder=a"),
            &format!("collection={id}&subfolders=true"),
            "collection=x",
            "folder=../a",
            "folder=a&format=rar",
            "folder=a&subfolders=yes",
            "folder=a&token=1",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_name_is_told_to_old_and_new_browsers() {
        let told = disposition("Été \"26\"; 100%", Format::Zip);
        assert_eq!(
            told,
            "attachment; filename=\"_t_ _26_; 100_.zip\"; filename*=UTF-8''%C3%89t%C3%A9%20%2226%22%3B%20100%25.zip"
        );
    }
}
