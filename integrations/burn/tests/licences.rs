//! What this crate links besides the core, held to the same list of licences.

#[path = "../../../tests/values/licences.rs"]
mod licences;
