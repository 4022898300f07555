//! The one guarded HTTP client: what a tenant, a customer or a stranger may name as a URL is fetched through here.
//!
//! It must not know policies, stores or serving: a caller gives it a rule over parsed URLs, limits, and the few private
//! hosts that may be reached. It must not be bypassed either: no other crate of ours opens connections to where a URL
//! leads.
//!
//! What is never done: follow anything but http(s), follow from https to http, send cookies or credentials elsewhere than
//! to the host they are for, ask a proxy of the environment, look at an address and then connect to another one.

mod address;
mod error;

mod target;

mod resolve;

mod connect;
mod tls;

mod marker;

mod decode;
mod head;

mod body;
mod post;

mod fetcher;
mod trace;

pub use address::{PrivateHosts, RefusedAddress};
pub use body::Body;
pub use connect::ConnectError;
pub use error::{BoxError, FetchError};
pub use fetcher::{FetchConfig, FetchLimits, Fetcher, GetOptions, UrlRule};
pub use head::{CacheTags, Freshness, Meta, Range, ServedRange, TAG_BYTES_MAX, TAGS_MAX, Validators};
pub use http::HeaderMap;
pub use marker::is_fetch_of_ours;
pub use post::{PostOptions, Posted};
pub use resolve::{Resolve, Resolving, SystemResolver};
pub use target::parse_url;
pub use tls::client_config as tls_client_config;
pub use url::Url;

pub use body::Response;
