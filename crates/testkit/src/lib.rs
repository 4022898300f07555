//! Fixtures made in code and origins that misbehave.
