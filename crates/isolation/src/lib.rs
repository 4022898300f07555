//! The only way to a tenant's rows: a transaction that works for this tenant.
//!
//! Tables of tenants have row-level security (`migrations/`): a statement sees the rows of the tenant that its transaction
//! has named, and without one sees none; the audit log says who made it. [`Database::begin`] is the only thing here that gives a connection, and it names one.
//! What has to cross tenants is a listed set of functions in the database, which [`Database::across`] calls.
//!
//! [`migrate()`] makes the tables. Must not hold statements on any of them, and must not know HTTP.

mod database;
mod error;
mod mandate;
mod migrate;
mod replica;
mod tenant;

pub use database::{Database, DatabaseOptions, Freshness, TenantTransaction};
pub use error::DatabaseError;
pub use mandate::{Actor, Author, Mandate};
pub use migrate::{MigrationError, migrate};
pub use replica::ReplicaState;
pub use tenant::TenantKey;
