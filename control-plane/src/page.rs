//! Lists by pages: `?limit=&cursor=`, in an order that does not change while they are read.
//!
//! A cursor says after which item a page begins. It is good for one list of one tenant; it gives no rights, so it is not signed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use isolation::TenantKey;
use rocket::request::{FromRequest, Outcome, Request};
use serde::Serialize;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{Object, Type};
use utoipa::{IntoParams, ToSchema};

use crate::openapi::optional;
use crate::problem::ApiError;
use crate::requests::{Exchange, query_fields};

/// Items of a page, unless the client says.
const LIMIT_DEFAULT: u32 = 50;

/// Most items of a page.
const LIMIT_MAX: u32 = 1000;

/// Longest cursor, in bytes: that of the longest name there is.
const CURSOR_BYTES_MAX: usize = 2048;

/// Which page is asked for.
#[derive(Debug)]
pub struct PageQuery {
    limit: u32,
    cursor: Option<String>,
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// What asks for the next page; `null` on the last.
    pub next_cursor: Option<String>,
}

/// What a cursor is good for.
#[derive(Debug, Clone, Copy)]
pub struct List {
    /// Its name.
    pub name: &'static str,
    /// Whose it is; nobody's is the operator's.
    pub tenant: Option<TenantKey>,
}

impl List {
    /// What asks for what comes after an item.
    pub fn cursor(self, key: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.mark() + key)
    }

    fn mark(self) -> String {
        format!("{}/{}/", self.name, self.tenant.map(|tenant| tenant.to_string()).unwrap_or_default())
    }
}

impl IntoParams for PageQuery {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let limit = Object::builder().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(LIMIT_MAX));
        let cursor = Object::builder().schema_type(Type::String).max_length(Some(CURSOR_BYTES_MAX));
        vec![
            optional("limit", ParameterIn::Query, "Items of the page, 50 if not said", limit),
            optional("cursor", ParameterIn::Query, "`next_cursor` of the page before", cursor),
        ]
    }
}

impl PageQuery {
    /// How many items to look for: one more than the page has tells that there is another page.
    pub fn look_for(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// After which item the page begins.
    ///
    /// # Errors
    /// [`ApiError::Cursor`].
    pub fn after(&self, list: List) -> Result<Option<String>, ApiError> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| ApiError::Cursor)?;
        let text = String::from_utf8(bytes).map_err(|_| ApiError::Cursor)?;
        // No name has control characters, and the database takes no NUL.
        let after = text.strip_prefix(&list.mark()).filter(|after| !after.contains(char::is_control));
        let after = after.ok_or(ApiError::Cursor)?;
        Ok(Some(after.to_owned()))
    }

    /// The page out of what was found, `key` being what the list is ordered by.
    pub fn page<T>(&self, list: List, mut found: Vec<T>, key: impl Fn(&T) -> String) -> Page<T> {
        let limit = self.limit as usize;
        let more = found.len() > limit;
        found.truncate(limit);
        let next_cursor = found.last().filter(|_| more).map(|last| list.cursor(&key(last)));
        Page { items: found, next_cursor }
    }

    /// Out of the fields of a query.
    ///
    /// # Errors
    /// [`ApiError::Field`] and [`ApiError::Cursor`].
    pub fn parse<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, ApiError> {
        let mut query = Self { limit: LIMIT_DEFAULT, cursor: None };
        for (name, value) in fields {
            match name {
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    query.limit = limit.ok_or_else(|| ApiError::field("limit", format!("is 1 to {LIMIT_MAX}")))?;
                }
                "cursor" if value.len() <= CURSOR_BYTES_MAX => query.cursor = Some(value.to_owned()),
                "cursor" => return Err(ApiError::Cursor),
                _ => return Err(ApiError::field("query", "only \"limit\" and \"cursor\" are known here")),
            }
        }
        Ok(query)
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for PageQuery {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Exchange::outcome(request, Self::parse(query_fields(request)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: List = List { name: "letters", tenant: None };

    fn query(fields: &[(&str, &str)]) -> Result<PageQuery, ApiError> {
        PageQuery::parse(fields.iter().copied())
    }

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let letters = ["a", "b", "c", "d", "e"];
        let (mut cursor, mut read) = (None::<String>, Vec::new());
        loop {
            let mut fields = vec![("limit", "2")];
            fields.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let query = query(&fields).expect("a query");
            let after = query.after(LIST).expect("our own cursor");
            let found = letters.iter().filter(|letter| after.as_deref().is_none_or(|after| **letter > after));
            let found = found.take(query.look_for() as usize).map(|letter| (*letter).to_owned()).collect();
            let page = query.page(LIST, found, String::clone);
            assert!(page.items.len() <= 2);
            read.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(read, letters);
    }

    #[test]
    fn a_cursor_is_good_for_its_own_list() {
        let found = vec!["a".to_owned(), "b".to_owned()];
        let page = query(&[("limit", "1")]).expect("a query").page(LIST, found, String::clone);
        let cursor = page.next_cursor.expect("there is more");
        let query = query(&[("cursor", &cursor)]).expect("a query");
        assert_eq!(query.after(LIST).expect("good").as_deref(), Some("a"));
        for other in [List { name: "numbers", ..LIST }, List { tenant: Some(TenantKey::generate()), ..LIST }] {
            assert!(matches!(query.after(other), Err(ApiError::Cursor)), "{other:?}");
        }
    }

    #[test]
    fn what_is_not_allowed_is_told() {
        let long = "a".repeat(CURSOR_BYTES_MAX + 1);
        for bad in
            [("limit", "0"), ("limit", "1001"), ("limit", "x"), ("limit", "-1"), ("offset", "1"), ("cursor", &long)]
        {
            assert!(query(&[bad]).is_err(), "{bad:?}");
        }
        for forged in ["%", "", &URL_SAFE_NO_PAD.encode("letters//a\0b"), &URL_SAFE_NO_PAD.encode(b"letters//\xff")] {
            let query = query(&[("cursor", forged)]).expect("is read later");
            assert!(matches!(query.after(LIST), Err(ApiError::Cursor)), "{forged}");
        }
    }
}
