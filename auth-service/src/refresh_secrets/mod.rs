//! The secrets of refresh tokens: the first one issues tokens, and all of them open tokens.
//!
//! - `file`: the file with the secrets. `rotation`: rotates them.
//! - `source`: the current secrets of a server.

mod file;
mod rotation;
mod source;

pub use file::{SecretFile, SecretInfo};
pub use rotation::{remove, rotate};
pub use source::RefreshKeySource;
