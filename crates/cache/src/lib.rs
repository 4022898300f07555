//! The hybrid memory and disk cache of renditions with single flight.
