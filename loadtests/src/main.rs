//! Measures Calotype and its peers and writes the figures down.

fn main() {}
