//! The configuration: text, raw form, checked model ("parse, don't validate"), and edits that keep comments.

pub mod model;
