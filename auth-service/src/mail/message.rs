//! Mails in the Internet Message Format (RFC 5322).

use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context;
use lettre::{
    Address, Message,
    message::{
        Mailbox, MultiPart, SinglePart,
        header::{HeaderName, HeaderValue},
    },
};
use service_kit::public_url::PublicUrl;

use super::letter::Letter;
use crate::model::{
    email::Email,
    mail::{Mail, Template},
};

/// The name of the sender.
const SENDER_NAME: &str = "Taskey";

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

    /// Creates the message of a mail. All attempts to send the mail have the same `Message-ID`, by which mail servers
    /// recognize duplicates.
    ///
    /// # Errors
    /// If the recipient is no valid address of a mailbox.
    pub fn compose(&self, mail: &Mail, template: Template) -> Result<Message, String> {
        let recipient: Address = mail.recipient.parse().map_err(|_| "the address cannot receive mails".to_owned())?;
        let letter = Letter::new(mail, template, &self.public_url);
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
        let parts = MultiPart::alternative()
            .boundary(mail.id.simple().to_string())
            .singlepart(SinglePart::plain(letter.plain_text()))
            .singlepart(SinglePart::html(letter.html()));
        message.multipart(parts).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, env, fs, path::Path};

    use service_kit::clock::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::mail::letter;

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
            details: BTreeMap::from([(letter::IP_ADDRESS.to_owned(), "192.0.2.1".to_owned())]),
            attempt: 1,
            created_at: Timestamp::from_seconds(1_795_977_000),
        }
    }

    /// The files are read by people. To change them, run the test with `UPDATE_MAILS=1`.
    #[test]
    fn mails_are_those_in_the_golden_files() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mails");
        for template in Template::ALL {
            let file = folder.join(template.name().to_lowercase()).with_extension("eml");
            let message = composer().compose(&mail(template, "ann@example.com"), template).expect("composed");
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
            let composed = composer().compose(&mail(Template::PasswordChanged, recipient), Template::PasswordChanged);
            assert!(composed.is_err(), "{recipient:?}");
        }
    }

    #[test]
    fn every_accepted_address_of_an_account_is_quoted_or_refused() {
        for text in ["!#$%&'*+-/=?^_`{|}~.9z@x.io", "a@1.2.3.4", "o'brien+tag@a--b.io"] {
            let recipient = Email::parse(text).expect(text);
            let message =
                composer().compose(&mail(Template::PasswordChanged, recipient.as_str()), Template::PasswordChanged);
            let message = message.expect(text).formatted();
            let message = String::from_utf8(message).expect("ASCII");
            let headers = message.split("\r\n\r\n").next().expect("headers");
            assert_eq!(headers.matches("\r\nTo: ").count(), 1, "{headers}");
            assert!(headers.contains(&format!("To: {text}\r\n")), "{headers}");
        }
    }
}
