//! The real daemon in a namespace.
