//! Sends the messages of webhooks.
//!
//! - `sender`: an attempt, with its signatures. `http`: a request to a receiver. `secrets`: encrypts secrets.
//! - `message`: the messages, and their ids and JSON.
//! - `delivery`: the messages of one webhook, one after the other. `dispatcher`: starts deliveries.

mod delivery;
pub(crate) mod dispatcher;
mod http;
pub(crate) mod message;
pub(crate) mod secrets;
pub(crate) mod sender;
