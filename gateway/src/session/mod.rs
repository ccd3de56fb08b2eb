//! Who calls, in a browser: the access token in a cookie.

pub mod cookie;
pub mod cookie_mode;
