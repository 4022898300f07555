//! Configuration, logging and metrics registry of the services.
