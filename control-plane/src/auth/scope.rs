//! What a key may do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One thing that a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Scope {
    /// Read media, folders and jobs.
    #[serde(rename = "media:read")]
    MediaRead,
    /// Change them.
    #[serde(rename = "media:write")]
    MediaWrite,
    /// Change what is delivered and how: presets, images, origins, domains, policy, purges.
    #[serde(rename = "delivery:write")]
    DeliveryWrite,
    /// Everything, keys included.
    #[serde(rename = "admin")]
    Admin,
}

impl Scope {
    /// All that there are.
    pub const ALL: [Self; 4] = [Self::MediaRead, Self::MediaWrite, Self::DeliveryWrite, Self::Admin];

    /// Its name in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MediaRead => "media:read",
            Self::MediaWrite => "media:write",
            Self::DeliveryWrite => "delivery:write",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(())
    }
}

/// All that a key may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Whether this is among them.
    pub fn contain(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0 || (scope != Scope::Admin && self.contain(Scope::Admin))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |all, scope| all | (1 << scope as u8)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_is_everything_and_nothing_else_is_more_than_itself() {
        for held in Scope::ALL {
            let scopes: Scopes = [held].into_iter().collect();
            for wanted in Scope::ALL {
                assert_eq!(scopes.contain(wanted), held == Scope::Admin || held == wanted, "{held}, {wanted}");
            }
            assert_eq!(held.as_str().parse(), Ok(held));
        }
        assert!(!Scopes::default().contain(Scope::MediaRead) && "media".parse::<Scope>().is_err());
    }
}
