//! Parses the options that all writes have.

use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use prost::Message;
use service_kit::status::{ApiError, Violations};
use uuid::Uuid;

use crate::model::field;

/// The options of a write.
#[derive(Clone, Debug)]
pub(crate) struct WriteOptions {
    /// The request id and the hash of the request, if it has an id (AIP-155).
    pub(crate) request: Option<RequestId>,
    /// Whether the write is a dry run (AIP-163).
    pub(crate) validate_only: bool,
}

/// The id that a caller generated for a request, and the hash of that request.
#[derive(Clone, Debug)]
pub(crate) struct RequestId {
    pub(crate) id: Uuid,
    /// SHA-256 of the method and the whole request, in base64url.
    pub(crate) hash: String,
}

impl WriteOptions {
    /// Parses the options of a request to a method. A dry run has no request id, because its response is not stored.
    ///
    /// # Errors
    /// VALIDATION_FAILED if the id is not a UUID.
    pub(crate) fn parse(
        method: &'static str,
        request: &impl Message,
        id: &str,
        validate_only: bool,
    ) -> Result<Self, ApiError> {
        let mut violations = Violations::default();
        let id = violations.check("request_id", field::optional_id(id));
        let id = violations.finish(id)?.filter(|_| !validate_only);
        Ok(Self { request: id.map(|id| RequestId { id, hash: hash(method, request) }), validate_only })
    }
}

/// Hashes a method and a request, separated by a NUL, which no method name contains.
fn hash(method: &str, request: &impl Message) -> String {
    let mut context = Context::new(&SHA256);
    context.update(method.as_bytes());
    context.update(&[0]);
    context.update(&request.encode_to_vec());
    BASE64_URL_SAFE_NO_PAD.encode(context.finish())
}
