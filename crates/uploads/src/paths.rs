//! The names of objects.

use sha2::{Digest, Sha256};
use storage::{ObjectPath, ObjectPrefix};
use uuid::Uuid;

use crate::PublicId;

/// The bytes of one revision of a medium: `t/{tenant}/m/{media}/{revision}`. A revision is never written twice.
#[must_use]
pub fn object_path(tenant: Uuid, media: Uuid, revision: Uuid) -> ObjectPath {
    path(format!("t/{tenant}/m/{media}/{revision}"))
}

/// What a public id of a tenant means: `t/{tenant}/n/{SHA-256 of the id}`. `tenant` is its unchanging id as text.
#[must_use]
pub fn pointer_path(tenant: &str, public_id: &PublicId) -> ObjectPath {
    path(format!("t/{tenant}/n/{:x}", Sha256::digest(public_id.as_str())))
}

/// Bytes of an upload that is on its way in: `u/{tenant}/{upload}/{object}`. No medium leads to it, and edges never read it.
#[must_use]
pub fn incoming_path(tenant: Uuid, upload: Uuid, object: Uuid) -> ObjectPath {
    path(format!("u/{tenant}/{upload}/{object}"))
}

/// What the names of all [`incoming_path`]s of an upload begin with.
#[must_use]
pub fn incoming_prefix(tenant: Uuid, upload: Uuid) -> ObjectPrefix {
    ObjectPrefix::new(format!("u/{tenant}/{upload}/")).expect("ids are good names")
}

fn path(text: String) -> ObjectPath {
    ObjectPath::new(text).expect("ids and hashes are good names")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_its_way_in_is_below_a_name_of_its_own() {
        let (tenant, upload, object) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        let (path, prefix) = (incoming_path(tenant, upload, object), incoming_prefix(tenant, upload));
        assert_eq!(path.as_str().strip_prefix(prefix.as_str()), Some(object.to_string().as_str()));
        assert!(!incoming_path(tenant, object, upload).as_str().starts_with(prefix.as_str()));
    }

    #[test]
    fn objects_have_names_of_their_own_for_each_tenant() {
        let (tenant, media, revision) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        assert_eq!(
            object_path(tenant, media, revision).as_str(),
            "t/00000000-0000-0000-0000-000000000001/m/00000000-0000-0000-0000-000000000002/00000000-0000-0000-0000-000000000003"
        );
        let id = PublicId::new("summer/beach").expect("good");
        let pointer = pointer_path(&tenant.to_string(), &id);
        assert_eq!(
            pointer.as_str(),
            format!("t/{tenant}/n/0d4a4bcfd0769123908bd81653ba7f45860cc480845d77d9bc24b1d100c704d7").as_str()
        );
    }
}
