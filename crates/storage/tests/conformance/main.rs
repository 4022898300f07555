//! What both kinds of store promise, run over a folder, a bucket, and a part of a bucket.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../stores/mod.rs"]
mod stores;

/// Makes tests of functions that take a [`stores::Place`]: one for each kind.
macro_rules! for_each_store {
    ($($name:ident)+) => {$(
        mod $name {
            use super::$name as check;
            use crate::stores;

            #[tokio::test]
            async fn folder() {
                check(stores::folder().await).await;
            }

            #[tokio::test]
            async fn s3() {
                check(stores::s3().await).await;
            }

            #[tokio::test]
            async fn s3_under_prefix() {
                check(stores::s3_under_prefix().await).await;
            }
        }
    )+};
}

mod listing;
mod names;
mod ranges;
mod reading;
mod writing;
