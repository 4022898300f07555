//! Tenants, origins and policy shared by every part.
