//! Errors of the delivery of mails.

use crate::model::text;

/// Why a mail was not delivered.
#[derive(Clone, Debug)]
pub struct DeliveryError {
    /// What went wrong.
    pub message: String,
    /// Whether further attempts cannot succeed.
    pub is_permanent: bool,
}

impl DeliveryError {
    /// Creates an error after which further attempts can succeed.
    #[must_use]
    pub fn temporary(message: &impl ToString) -> Self {
        Self::new(message, false)
    }

    /// Creates an error. The message may contain text of an SMTP server. Control characters and email addresses are
    /// removed from it, because it is logged, and long messages are truncated.
    #[must_use]
    pub fn new(message: &impl ToString, is_permanent: bool) -> Self {
        let message = message.to_string();
        let words = message.split_whitespace().map(|word| if word.contains('@') { "[address]" } else { word });
        let message = words.collect::<Vec<_>>().join(" ");
        Self { message: text::sanitize(&message), is_permanent }
    }
}
