//! The edge server: transform URLs answered from a hybrid cache.

fn main() {}
