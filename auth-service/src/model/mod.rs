//! What the service is about. Values are parsed at the edge into types that cannot be wrong.

pub mod audit;
pub mod client_info;
pub mod email;
pub mod login_throttle;
pub mod password;
pub mod refresh_token;
pub mod role;
pub mod service_token;
pub mod session;
pub mod text;
pub mod user;
pub mod user_filter;
