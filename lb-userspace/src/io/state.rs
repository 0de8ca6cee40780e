//! `state.db`: revisions of the configuration and the journal of edits under way.
