//! From when to when usage is asked for, and by what: `?from=&to=&by=`.

use rocket::http::MediaType;
use rocket::request::{FromRequest, Outcome, Request};
use time::format_description::well_known::Iso8601;
use time::{Date, OffsetDateTime};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, Object, SchemaFormat, Type};

use crate::openapi::optional;
use crate::problem::ApiError;
use crate::requests::{Exchange, query_fields};

/// Most days of a series by days, and of one by months: both are read row by row.
const DAYS_MAX: i64 = 366;
const DAYS_MAX_BY_MONTH: i64 = 3 * 366;

/// What a series has an entry for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Each day.
    Day,
    /// Each month.
    Month,
}

impl By {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    fn days_max(self) -> i64 {
        match self {
            Self::Day => DAYS_MAX,
            Self::Month => DAYS_MAX_BY_MONTH,
        }
    }
}

/// Days of UTC, both of them included; none is yet to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first one.
    pub from: Date,
    /// The last one.
    pub to: Date,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeQuery {
    /// Which days.
    pub range: Range,
    /// In which steps.
    pub by: By,
}

impl IntoParams for RangeQuery {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let date = || {
            let date = Object::builder().schema_type(Type::String);
            date.format(Some(SchemaFormat::KnownFormat(KnownFormat::Date)))
        };
        let by = Object::builder().schema_type(Type::String).enum_values(Some(["day", "month"]));
        vec![
            optional("from", ParameterIn::Query, "The first day (UTC), that of the month of `to` if not said", date()),
            optional("to", ParameterIn::Query, "The last day, today if not said", date()),
            optional("by", ParameterIn::Query, "What there is an entry for, each day if not said", by),
        ]
    }
}

impl RangeQuery {
    /// Out of the fields of a query; `today` is the last day that there is.
    ///
    /// # Errors
    /// [`ApiError::Field`].
    pub fn parse<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>, today: Date) -> Result<Self, ApiError> {
        let (mut from, mut to, mut by) = (None, today, By::Day);
        for (name, value) in fields {
            match name {
                "from" => from = Some(date("from", value)?),
                "to" => to = date("to", value)?.min(today),
                "by" if value == "day" => by = By::Day,
                "by" if value == "month" => by = By::Month,
                "by" => return Err(ApiError::field("by", "is \"day\" or \"month\"")),
                _ => return Err(ApiError::field("query", "only \"from\", \"to\" and \"by\" are known here")),
            }
        }
        // Every month has a first.
        let from = from.unwrap_or_else(|| to.replace_day(1).unwrap_or(to));
        let days = (to - from).whole_days() + 1;
        if days < 1 {
            return Err(ApiError::field("from", "is not after \"to\", nor after today"));
        }
        if days > by.days_max() {
            return Err(ApiError::field("from", format!("is at most {} days before the end", by.days_max())));
        }
        Ok(Self { range: Range { from, to }, by })
    }
}

/// A date as it is written.
///
/// # Errors
/// [`ApiError::Field`], by this name.
pub fn date(name: &'static str, text: &str) -> Result<Date, ApiError> {
    let read = Date::parse(text, &Iso8601::DATE).ok();
    // One spelling only.
    read.filter(|date| date.to_string() == text).ok_or_else(|| ApiError::field(name, "is a date, as 2026-01-31"))
}

/// Whether whoever asks would rather have CSV than JSON.
pub fn wants_csv(request: &Request<'_>) -> bool {
    request.accept().is_some_and(|accept| *accept.preferred().media_type() == MediaType::CSV)
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for RangeQuery {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let today = OffsetDateTime::now_utc().date();
        Exchange::outcome(request, Self::parse(query_fields(request), today))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(fields: &[(&str, &str)]) -> Result<RangeQuery, ApiError> {
        RangeQuery::parse(fields.iter().copied(), date("to", "2026-03-10").expect("a date"))
    }

    #[track_caller]
    fn check(fields: &[(&str, &str)], from: &str, to: &str) {
        let range = parse(fields).expect("a range").range;
        assert_eq!((range.from.to_string(), range.to.to_string()), (from.to_owned(), to.to_owned()), "{fields:?}");
    }

    #[test]
    fn what_is_not_said_is_the_month_so_far() {
        check(&[], "2026-03-01", "2026-03-10");
        check(&[("from", "2026-01-31")], "2026-01-31", "2026-03-10");
        check(&[("to", "2026-02-03")], "2026-02-01", "2026-02-03");
        check(&[("to", "2026-12-31")], "2026-03-01", "2026-03-10");
        check(&[("from", "2026-03-10"), ("by", "month")], "2026-03-10", "2026-03-10");
        check(&[("from", "2025-03-10")], "2025-03-10", "2026-03-10");
        check(&[("from", "2024-01-01"), ("by", "month")], "2024-01-01", "2026-03-10");
    }

    #[test]
    fn what_is_not_allowed_is_told() {
        for bad in [
            ("from", "2026-03-11"),
            ("from", "2025-03-09"),
            ("from", "2026-3-1"),
            ("from", "2026-02-30"),
            ("from", "2026-W10-1"),
            ("from", "20260301"),
            ("from", "-002026-03-01"),
            ("to", ""),
            ("by", "year"),
            ("until", "2026-03-01"),
        ] {
            assert!(matches!(parse(&[bad]), Err(ApiError::Field { .. })), "{bad:?}");
        }
    }
}
