//! Object store facade: S3 and folder.
