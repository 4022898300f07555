//! For which tenant a transaction works, and who makes it do so: what the audit log says of each change.
//!
//! Must not know how anybody is told from others, nor what is written down: triggers do that (`migrations/0007_audit.sql`).

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

use crate::TenantKey;

/// Who changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// A tenant, with its key of this id.
    Key(Uuid),
    /// The operator.
    Operator,
    /// A worker, because of this job.
    Job(Uuid),
    /// A worker on its rounds.
    Worker,
    /// The system itself, in what it keeps for itself.
    System,
}

impl Actor {
    fn write_to(self, text: &mut String) {
        let written = match self {
            Self::Key(id) => write!(text, "key:{id}"),
            Self::Job(id) => write!(text, "job:{id}"),
            Self::Operator => write!(text, "operator"),
            Self::Worker => write!(text, "worker"),
            Self::System => write!(text, "system"),
        };
        written.expect("a string takes everything");
    }
}

/// Who changes something, in the course of what. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Author {
    /// The statement that says so to the database, but for the tenant.
    settings: Arc<str>,
}

impl Author {
    /// Somebody, in the course of this: method and pattern of a path, a kind of job, a command.
    #[must_use]
    pub fn new(actor: Actor, operation: &str) -> Self {
        Self::with(actor, operation, None, None)
    }

    /// The same, by a request of this id that came from there.
    #[must_use]
    pub fn of_request(actor: Actor, operation: &str, request: Uuid, client: Option<IpAddr>) -> Self {
        Self::with(actor, operation, Some(request), client)
    }

    fn with(actor: Actor, operation: &str, request: Option<Uuid>, client: Option<IpAddr>) -> Self {
        let mut settings = String::with_capacity(320);
        let mut set = |name: &str, value: &str| {
            // Every setting is made anew, so that nothing is left of whom the connection worked for before.
            let value = value.replace('\'', "''");
            write!(settings, ", set_config('calotype.{name}', '{value}', true)").expect("a string takes everything");
        };
        let mut who = String::new();
        actor.write_to(&mut who);
        set("actor", &who);
        set("operation", operation);
        set("request", &request.map(|id| id.to_string()).unwrap_or_default());
        set("client", &client.map(|address| address.to_string()).unwrap_or_default());
        Self { settings: settings.into() }
    }
}

/// A tenant, and who works for it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mandate {
    /// Whose rows are seen and changed.
    pub tenant: TenantKey,
    /// Who does that.
    pub author: Author,
}

impl Mandate {
    /// For this tenant, by this author.
    #[must_use]
    pub fn new(tenant: TenantKey, author: &Author) -> Self {
        Self { tenant, author: author.clone() }
    }

    /// For what the system keeps of a tenant for itself, which nobody has asked for: leases, pointers, objects in the store. None of it is
    /// in the audit log.
    #[must_use]
    pub fn upkeep(tenant: TenantKey) -> Self {
        Self { tenant, author: Author::new(Actor::System, "upkeep") }
    }

    /// What begins a transaction after `begin`, in one round trip.
    pub(crate) fn statement(&self, begin: &str) -> String {
        let Self { tenant, author } = self;
        // A UUID has no character that could end the literal.
        format!("{begin}; SELECT set_config('calotype.tenant', '{tenant}', true){}", author.settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_to_the_database_and_no_text_ends_its_literal() {
        let tenant = TenantKey::from(Uuid::from_u128(1));
        let (key, request) = (Uuid::from_u128(2), Uuid::from_u128(3));
        let author = Author::of_request(Actor::Key(key), "PUT /v1/it's", request, Some([192, 0, 2, 1].into()));
        assert_eq!(
            Mandate::new(tenant, &author).statement("BEGIN"),
            "BEGIN; SELECT set_config('calotype.tenant', '00000000-0000-0000-0000-000000000001', true), \
             set_config('calotype.actor', 'key:00000000-0000-0000-0000-000000000002', true), \
             set_config('calotype.operation', 'PUT /v1/it''s', true), \
             set_config('calotype.request', '00000000-0000-0000-0000-000000000003', true), \
             set_config('calotype.client', '192.0.2.1', true)"
        );
        assert!(Mandate::upkeep(tenant).statement("BEGIN").contains("'calotype.client', '', true"));
    }
}
