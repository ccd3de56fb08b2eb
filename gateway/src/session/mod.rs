//! Authentication of browsers: tokens in cookies.

pub mod cookie;
pub mod cookie_mode;
pub mod origin;
