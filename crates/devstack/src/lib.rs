//! Starts and stops the parts a developer or a test needs.
