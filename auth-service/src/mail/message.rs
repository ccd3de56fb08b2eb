//! Mails in the Internet Message Format (RFC 5322).

use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context;
use lettre::{
    Address, Message,
    message::{
        Body, Mailbox, MultiPart, SinglePart,
        header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue},
    },
};
use service_kit::public_url::PublicUrl;

use super::letter::Letter;
use crate::model::{
    action_token::ActionSecrets,
    email::Email,
    mail::{Mail, Template},
};

/// The name of the sender.
const SENDER_NAME: &str = "Taskey";

/// Maximum length of a line without its end (RFC 5322, section 2.1.1).
const MAX_LINE_LENGTH: usize = 998;

/// Creates messages.
#[derive(Clone, Debug)]
pub struct Composer {
    from: Address,
    public_url: PublicUrl,
}

impl Composer {
    /// Creates a composer.
    ///
    /// # Errors
    /// If the address of the sender is no valid address of a mailbox (RFC 5321), which has a stricter syntax.
    pub fn new(from: &Email, public_url: PublicUrl) -> anyhow::Result<Self> {
        let from = from.as_str().parse().context("--mail-from is not the address of a mailbox")?;
        Ok(Self { from, public_url })
    }

    /// Writes the words of a mail, with its secrets.
    #[must_use]
    pub fn write(&self, mail: &Mail, template: Template, secrets: Option<&ActionSecrets>) -> Letter {
        Letter::new(mail, template, secrets, &self.public_url)
    }

    /// Creates the message of a mail. All attempts to send the mail have the same `Message-ID`, by which mail servers
    /// recognize duplicates.
    ///
    /// # Errors
    /// If the recipient is no valid address of a mailbox.
    pub fn compose(&self, mail: &Mail, letter: &Letter) -> Result<Message, String> {
        let recipient: Address = mail.recipient.parse().map_err(|_| "the address cannot receive mails".to_owned())?;
        let micros = u64::try_from(mail.created_at.as_micros()).unwrap_or(0);
        let message = Message::builder()
            .from(Mailbox::new(Some(SENDER_NAME.to_owned()), self.from.clone()))
            .to(Mailbox::new(None, recipient))
            .subject(&letter.subject)
            .date(UNIX_EPOCH + Duration::from_micros(micros))
            .message_id(Some(format!("<{}@{}>", mail.id, self.from.domain())))
            // Prevents automatic replies (RFC 3834).
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        let plain_text = SinglePart::builder().header(ContentType::TEXT_PLAIN).body(plain_body(&letter.plain_text()));
        let parts = MultiPart::alternative()
            .boundary(mail.id.simple().to_string())
            .singlepart(plain_text)
            .singlepart(SinglePart::html(letter.html()));
        message.multipart(parts).map_err(|error| error.to_string())
    }
}

/// Returns the body of plain text. lettre would encode text with a line of more than 76 characters, such as a link, as
/// quoted-printable, from which people cannot copy it without a mail program.
fn plain_body(text: &str) -> Body {
    let needs_encoding = !text.is_ascii() || text.lines().any(|line| line.len() > MAX_LINE_LENGTH);
    if needs_encoding {
        return Body::new(text.to_owned());
    }
    Body::dangerous_pre_encoded(text.replace('\n', "\r\n").into_bytes(), ContentTransferEncoding::SevenBit)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, env, fs, path::Path};

    use service_kit::clock::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::model::mail::IP_ADDRESS;

    fn composer() -> Composer {
        let from = Email::parse("tasks@example.org").expect("an address");
        Composer::new(&from, "https://tasks.example.org".parse().expect("a URL")).expect("an address")
    }

    fn mail(template: Template, recipient: &str) -> Mail {
        Mail {
            id: Uuid::from_u128(0x0198_c0de_0000_7000_8000_0000_0000_0000),
            user_id: Uuid::from_u128(1),
            template: Some(template),
            recipient: recipient.to_owned(),
            details: BTreeMap::from([(IP_ADDRESS.to_owned(), "192.0.2.1".to_owned())]),
            account_state: String::new(),
            attempt: 1,
            created_at: Timestamp::from_seconds(1_795_977_000),
        }
    }

    fn compose(template: Template, recipient: &str) -> Result<Message, String> {
        let (mail, token) = (mail(template, recipient), "A".repeat(64));
        let secrets = ActionSecrets { token, code: "1234 5678".to_owned() };
        let letter = composer().write(&mail, template, Some(&secrets));
        composer().compose(&mail, &letter)
    }

    /// The files are read by people. To change them, run the test with `UPDATE_MAILS=1`.
    #[test]
    fn mails_are_those_in_the_golden_files() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mails");
        for template in Template::ALL {
            let file = folder.join(template.name().to_lowercase()).with_extension("eml");
            let message = compose(template, "ann@example.com").expect("composed");
            let message = String::from_utf8(message.formatted()).expect("ASCII").replace("\r\n", "\n");
            if env::var_os("UPDATE_MAILS").is_some() {
                fs::write(&file, &message).expect("written");
            }
            assert_eq!(message, fs::read_to_string(&file).expect("a golden file"), "{template:?}");
        }
    }

    #[test]
    fn recipients_cannot_add_headers() {
        for recipient in ["ann@example.com\r\nBcc: bob@example.com", "ann@example.com, bob@example.com", "<a@b>", ""] {
            assert!(compose(Template::PasswordChanged, recipient).is_err(), "{recipient:?}");
        }
    }

    #[test]
    fn every_accepted_address_of_an_account_is_quoted_or_refused() {
        for text in ["!#$%&'*+-/=?^_`{|}~.9z@x.io", "a@1.2.3.4", "o'brien+tag@a--b.io"] {
            let recipient = Email::parse(text).expect(text);
            let message = compose(Template::PasswordChanged, recipient.as_str()).expect(text).formatted();
            let message = String::from_utf8(message).expect("ASCII");
            let headers = message.split("\r\n\r\n").next().expect("headers");
            assert_eq!(headers.matches("\r\nTo: ").count(), 1, "{headers}");
            assert!(headers.contains(&format!("To: {text}\r\n")), "{headers}");
        }
    }
}
