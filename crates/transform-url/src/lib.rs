//! Delivery URLs and their one canonical Transform.
