//! The words of mails. Plain text and HTML are written from the same paragraphs.
//!
//! Mails contain no text that others can choose, such as the name of a user or of a program, because a stranger could
//! send any text in a genuine mail by it.

use std::fmt::Write;

use service_kit::{clock::Timestamp, public_url::PublicUrl};

use crate::model::{
    action_token::ActionSecrets,
    mail::{IP_ADDRESS, Mail, Template},
};

/// Maximum length of the lines of plain text, except those with a URL.
const LINE_LENGTH: usize = 72;

/// A mail, before it is formatted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The subject.
    pub subject: String,
    /// The paragraphs.
    pub paragraphs: Vec<Paragraph>,
}

/// A paragraph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Paragraph {
    /// Sentences.
    Text(String),
    /// A link, which is shown as its URL.
    Link(String),
    /// A code to type.
    Code(String),
}

impl Letter {
    /// Writes the words of a mail, with its secrets. The links open the page, which acts only when the user presses a
    /// button: mail scanners follow links. The token is in the fragment, which browsers do not send to the server.
    #[must_use]
    pub fn new(mail: &Mail, template: Template, secrets: Option<&ActionSecrets>, public_url: &PublicUrl) -> Self {
        let (token, code) = secrets.map_or(("", ""), |secrets| (&secrets.token, &secrets.code));
        let page = public_url.without_slash();
        let words = Words { address: &mail.recipient, cause: cause(mail), page, token, code };
        match template {
            Template::PasswordChanged => words.password_changed(),
            Template::EmailChanged => words.email_changed(),
            Template::NewDevice => words.new_device(),
            Template::RefreshReused => words.refresh_reused(),
            Template::AccountExists => words.account_exists(),
            Template::FactorChanged => words.factor_changed(),
            Template::PasskeyCloneSuspected => words.passkey_clone_suspected(),
            Template::ConfirmEmailChange => words.confirm_email_change(),
            Template::VerifyEmail => words.verify_email(),
            Template::ResetPassword => words.reset_password(),
        }
    }

    fn with(subject: &str, paragraphs: impl Into<Vec<Paragraph>>) -> Self {
        Self { subject: subject.to_owned(), paragraphs: paragraphs.into() }
    }

    /// Returns the mail as plain text.
    #[must_use]
    pub fn plain_text(&self) -> String {
        let paragraphs = self.paragraphs.iter().map(|paragraph| match paragraph {
            Paragraph::Text(text) => wrap(text),
            Paragraph::Link(url) => url.clone(),
            Paragraph::Code(code) => format!("    {code}"),
        });
        paragraphs.collect::<Vec<_>>().join("\n\n") + "\n"
    }

    /// Returns the mail as HTML without images, scripts or other remote content.
    #[must_use]
    pub fn html(&self) -> String {
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{}</title></head>\n\
             <body style=\"font-family: sans-serif; max-width: 36em; overflow-wrap: anywhere\">\n",
            escape(&self.subject)
        );
        for paragraph in &self.paragraphs {
            // Writing to a string cannot fail.
            _ = match paragraph {
                Paragraph::Text(text) => writeln!(html, "<p>{}</p>", escape(text)),
                Paragraph::Link(url) => writeln!(html, "<p><a href=\"{0}\">{0}</a></p>", escape(url)),
                Paragraph::Code(code) => {
                    writeln!(html, "<p style=\"font-size: 1.5em\"><strong>{}</strong></p>", escape(code))
                }
            };
        }
        html + "</body>\n</html>\n"
    }
}

/// What the words of a mail contain.
struct Words<'a> {
    address: &'a str,
    /// When and from where the mail was caused.
    cause: String,
    /// The URL of the page.
    page: String,
    token: &'a str,
    code: &'a str,
}

impl Words<'_> {
    /// Returns a link with the token to a view of the page.
    fn link(&self, view: &str) -> Paragraph {
        Paragraph::Link(format!("{}/#{view}={}", self.page, self.token))
    }

    fn code(&self) -> Paragraph {
        Paragraph::Code(self.code.to_owned())
    }

    fn password_changed(&self) -> Letter {
        let Self { address, cause, .. } = self;
        Letter::with(
            "Your password was changed",
            [
                text(format!("The password of your Taskey account {address} was changed {cause}.")),
                text("All other devices were logged out."),
                text(
                    "If you did not change it, somebody else can use your account. Log in and change the password, \
                 or, if you cannot log in, reset it:",
                ),
                Paragraph::Link(self.page.clone()),
            ],
        )
    }

    fn factor_changed(&self) -> Letter {
        let Self { address, cause, .. } = self;
        Letter::with(
            "The second factors of your account were changed",
            [
                text(format!("The second factors of your Taskey account {address} were changed {cause}.")),
                text(
                    "A factor was added or deleted, or the recovery codes were replaced. If it was neither you nor an \
                 administrator whom you have asked, somebody else can use your account. Check your factors, and change \
                 the password:",
                ),
                Paragraph::Link(format!("{}/#factors", self.page)),
            ],
        )
    }

    fn passkey_clone_suspected(&self) -> Letter {
        let Self { address, cause, .. } = self;
        Letter::with(
            "A passkey of your account may have been copied",
            [
                text(format!("A passkey of your Taskey account {address} was used {cause}.")),
                text(
                    "A passkey counts its uses, and this time the number had not increased, so somebody may have copied \
                 it. If you have not moved it to another device yourself, delete it, add a new one, and log out the \
                 devices that you do not know:",
                ),
                Paragraph::Link(format!("{}/#factors", self.page)),
            ],
        )
    }

    fn email_changed(&self) -> Letter {
        let Self { address, cause, .. } = self;
        Letter::with(
            "Your email address was changed",
            [
                text(format!(
                    "The email address of your Taskey account was {address}, and was changed to another one {cause}."
                )),
                text(
                    "If you did not change it, restore your address. This logs out all devices, makes the \
                 password invalid, and deletes the second factors that were added less than 7 days before the change, \
                 or later. You then get a mail with which to choose a new one:",
                ),
                self.link("undoEmailChange"),
                text("The link is valid for 7 days, also if the address is changed again."),
            ],
        )
    }

    fn new_device(&self) -> Letter {
        let Self { address, cause, .. } = self;
        Letter::with(
            "New login to your account",
            [
                text(format!("Somebody has logged in to your Taskey account {address} {cause}.")),
                text(
                    "The account was not used from there in the last 30 days. If it was not you, log out the device, \
                 and change the password:",
                ),
                Paragraph::Link(format!("{}/#account", self.page)),
            ],
        )
    }

    fn refresh_reused(&self) -> Letter {
        let Self { address, cause, .. } = self;
        Letter::with(
            "A device was logged out for safety",
            [
                text(format!(
                    "A login of your Taskey account {address} seems to have been used by two devices {cause}."
                )),
                text(
                    "Somebody may have copied it, so this login has ended. Log in again on the device that was logged \
                 out. If you have not restored a backup of that device, change the password as well:",
                ),
                Paragraph::Link(format!("{}/#account", self.page)),
            ],
        )
    }

    fn account_exists(&self) -> Letter {
        let Self { address, cause, .. } = self;
        Letter::with(
            "You already have an account",
            [
                text(format!("Somebody has tried to create a Taskey account for {address} {cause}.")),
                text(
                    "You already have one, or have changed its address less than a week ago. If it was you, log in. If \
                 you have forgotten the password, reset it:",
                ),
                Paragraph::Link(format!("{}/#forgotPassword", self.page)),
                text("If it was not you, ignore this mail."),
            ],
        )
    }

    fn confirm_email_change(&self) -> Letter {
        let Self { address, cause, .. } = self;
        Letter::with(
            "Confirm your new email address",
            [
                text(format!(
                    "Somebody has requested to use {address} for an account at Taskey {cause}. If it was you, confirm \
                 the change:"
                )),
                self.link("confirmEmailChange"),
                text("Or enter this code:"),
                self.code(),
                text("Both are valid for 24 hours. If it was not you, ignore this mail."),
            ],
        )
    }

    fn verify_email(&self) -> Letter {
        let Self { address, cause, .. } = self;
        Letter::with(
            "Confirm your email address",
            [
                text(format!(
                    "Somebody who uses {address} for an account at Taskey has requested this mail {cause}. If it \
                 was you, confirm that the address is yours:"
                )),
                self.link("verifyEmail"),
                text("Or enter this code:"),
                self.code(),
                text("Both are valid for 24 hours. If it was not you, ignore this mail."),
            ],
        )
    }

    fn reset_password(&self) -> Letter {
        let Self { address, cause, .. } = self;
        Letter::with(
            "Reset your password",
            [
                text(format!(
                    "Somebody has requested to reset the password of your Taskey account {address} {cause}. If it \
                 was you, choose a new password:"
                )),
                self.link("resetPassword"),
                text("Or enter this code:"),
                self.code(),
                text(
                    "Both are valid for one hour. A new password logs out all devices. Never pass the code on: Taskey does not ask for it by telephone or \
                 mail. If it was not you, ignore this mail; your password has not changed.",
                ),
            ],
        )
    }
}

fn text(text: impl Into<String>) -> Paragraph {
    Paragraph::Text(text.into())
}

/// Returns when and from where a mail was caused.
fn cause(mail: &Mail) -> String {
    let at = format_time(mail.created_at);
    match mail.details.get(IP_ADDRESS).filter(|address| !address.is_empty()) {
        Some(address) => format!("on {at}, from the IP address {address}"),
        None => format!("on {at}"),
    }
}

/// Returns a time as `2026-11-29 at 18:30 UTC`.
fn format_time(at: Timestamp) -> String {
    let text = at.to_string();
    let (date, time) = text.split_once('T').unwrap_or((&text, ""));
    format!("{date} at {} UTC", time.get(..5).unwrap_or(time))
}

/// Breaks lines between words.
fn wrap(text: &str) -> String {
    let mut wrapped = String::new();
    let mut length = 0;
    for word in text.split(' ') {
        let word_length = word.chars().count();
        if length > 0 && length + 1 + word_length > LINE_LENGTH {
            wrapped.push('\n');
            length = 0;
        } else if length > 0 {
            wrapped.push(' ');
            length += 1;
        }
        wrapped.push_str(word);
        length += word_length;
    }
    wrapped
}

/// Escapes text for HTML, in elements and in attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::{escape, wrap};

    #[test]
    fn lines_break_between_words() {
        let text = ["word"; 30].join(" ");
        let wrapped = wrap(&text);
        assert_eq!(wrapped.replace('\n', " "), text);
        assert!(wrapped.lines().all(|line| line.len() <= 72 && line.len() > 60 || line == "word word"), "{wrapped}");
    }

    #[test]
    fn html_is_escaped() {
        assert_eq!(escape("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
    }
}
