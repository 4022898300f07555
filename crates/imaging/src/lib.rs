//! Transforms pixels through libvips: probe, limits, render.
