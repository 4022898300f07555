//! `/v1/usage`: what tenants have used, by day or month.

use isolation::{Database, TenantTransaction};
use rocket::http::ContentType;
use rocket::request::{FromRequest, Outcome, Request};
use rocket::serde::json::Json;
use rocket::{Either, State, get};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::{IntoParams, ToSchema};

use super::tenants;
use crate::auth::{Admin, Caller};
use crate::page::{List, Page, PageQuery};
use crate::problem::ApiError;
use crate::requests::{Exchange, query_fields};
use crate::usage::{self, Amounts, RangeQuery, Usage, wants_csv};

const LIST: List = List { name: "usage", tenant: None };

/// How somebody wants to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As everywhere.
    Json,
    /// `Accept: text/csv`.
    Csv,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Form {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Outcome::Success(if wants_csv(request) { Self::Csv } else { Self::Json })
    }
}

type Series = Either<Json<Usage>, (ContentType, String)>;

/// What the tenant has used. The last ten seconds or so may not have been reported yet.
#[utoipa::path(
    tag = "usage",
    security(("tenantKey" = [])),
    params(RangeQuery),
    responses((status = 200, description = "It; with `Accept: text/csv` the series as CSV", content((Usage = "application/json"), (String = "text/csv"))))
)]
#[get("/usage")]
pub async fn get(
    caller: Caller,
    query: RangeQuery,
    form: Form,
    database: &State<Database>,
) -> Result<Series, ApiError> {
    series(caller.read(database).await?, query, form).await
}

/// What a tenant has used, for the operator.
#[utoipa::path(
    tag = "usage",
    security(("adminKey" = [])),
    params(RangeQuery),
    responses((status = 200, description = "It; with `Accept: text/csv` the series as CSV", content((Usage = "application/json"), (String = "text/csv"))))
)]
#[get("/tenants/<slug>/usage")]
pub async fn get_of(
    admin: Admin,
    slug: &str,
    query: RangeQuery,
    form: Form,
    database: &State<Database>,
) -> Result<Series, ApiError> {
    let tenant = tenants::find(database, slug).await?;
    series(database.read(&admin.mandate(tenant.id.into()), admin.freshness).await?, query, form).await
}

async fn series(mut transaction: TenantTransaction, query: RangeQuery, form: Form) -> Result<Series, ApiError> {
    let usage = usage::of(&mut transaction, query).await?;
    Ok(match form {
        Form::Json => Either::Left(Json(usage)),
        Form::Csv => Either::Right((ContentType::CSV, usage.to_csv())),
    })
}

/// Which days, and which page of tenants.
#[derive(Debug)]
pub struct TenantsQuery {
    range: RangeQuery,
    page: PageQuery,
}

impl TenantsQuery {
    fn parse<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, ApiError> {
        let (range, page): (Vec<_>, Vec<_>) = fields.partition(|(name, _)| matches!(*name, "from" | "to"));
        // As long as a series by months may be.
        let range = range.into_iter().chain([("by", "month")]);
        let range = RangeQuery::parse(range, OffsetDateTime::now_utc().date())?;
        Ok(Self { range, page: PageQuery::parse(page)? })
    }
}

impl IntoParams for TenantsQuery {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let range = RangeQuery::into_params(&place).into_iter().filter(|parameter| parameter.name != "by");
        range.chain(PageQuery::into_params(&place)).collect()
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for TenantsQuery {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Exchange::outcome(request, Self::parse(query_fields(request)))
    }
}

/// What a tenant has used in all.
#[derive(Debug, Serialize, ToSchema)]
pub struct TenantUsage {
    slug: String,
    #[serde(flatten)]
    used: Amounts,
}

/// What each tenant has used in all, by their names in URLs.
#[utoipa::path(
    tag = "usage",
    security(("adminKey" = [])),
    params(TenantsQuery),
    responses((status = 200, description = "A page, by slug", body = Page<TenantUsage>))
)]
#[get("/usage/tenants")]
pub async fn list(
    admin: Admin,
    query: TenantsQuery,
    database: &State<Database>,
) -> Result<Json<Page<TenantUsage>>, ApiError> {
    let TenantsQuery { range: RangeQuery { range, .. }, page } = query;
    let after = page.after(LIST)?.unwrap_or_default();
    let rows = sqlx::query!(
        r#"SELECT slug AS "slug!", requests AS "requests!", bytes AS "bytes!", hits AS "hits!", errors AS "errors!",
             transforms AS "transforms!", cpu_us AS "cpu_us!", stored_bytes AS "stored_bytes!",
             stored_files AS "stored_files!", stored_byte_days AS "stored_byte_days!"
           FROM usage_of_tenants($1, $2, $3, $4)"#,
        range.from,
        range.to,
        after,
        page.look_for() as i32
    );
    let rows =
        rows.fetch_all(&mut *database.read_across(admin.freshness).await?).await?.into_iter().map(|row| TenantUsage {
            slug: row.slug,
            used: Amounts {
                requests: row.requests,
                bytes: row.bytes,
                hits: row.hits,
                errors: row.errors,
                transforms: row.transforms,
                cpu_seconds: usage::seconds(row.cpu_us),
                storage_bytes: row.stored_bytes,
                files: row.stored_files,
                storage_byte_days: row.stored_byte_days,
            },
        });
    Ok(Json(page.page(LIST, rows.collect(), |tenant| tenant.slug.clone())))
}
