//! Asks for email address and password.

use std::{
    fs::OpenOptions,
    io::{self, BufRead, BufReader, Read, Write},
};

use anyhow::Context;
use zeroize::Zeroizing;

/// Maximum length of a line. Passwords have at most 128 characters, of up to 4 bytes.
const MAX_LINE_BYTES: usize = 1024;

/// What a user logs in with.
pub struct Credentials {
    /// The email address.
    pub email: String,
    /// The password.
    pub password: Zeroizing<String>,
}

/// Reads the credentials: from the terminal what is not in the arguments, and the password from the standard input if
/// `password_stdin` is set.
///
/// # Errors
/// If there is no terminal, or a line is invalid.
pub fn credentials(email: Option<String>, password_stdin: bool) -> anyhow::Result<Credentials> {
    let email = match email {
        Some(email) => email,
        None => ask("Email address: ")
            .context("cannot ask for the email address: use --email where there is no terminal")?,
    };
    let password = if password_stdin {
        read_line(io::stdin().lock()).context("cannot read the password from the standard input")?
    } else {
        let password = rpassword::prompt_password("Password: ").map(Zeroizing::new);
        password.context("cannot ask for the password: use --password-stdin where there is no terminal")?
    };
    Ok(Credentials { email, password })
}

/// Asks for the code of a second factor.
///
/// # Errors
/// If there is no terminal, or the line is invalid.
pub fn code() -> anyhow::Result<String> {
    let code = ask("Code of your authenticator app, or a recovery code: ");
    code.context("the account has a second factor: use --code where there is no terminal")
}

/// Asks for the password, for a call that requires it.
///
/// # Errors
/// If there is no terminal.
pub fn password() -> anyhow::Result<Zeroizing<String>> {
    let password = rpassword::prompt_password("Password: ").map(Zeroizing::new);
    password.context("this requires a recent login: use `taskey token login` first where there is no terminal")
}

fn ask(question: &str) -> anyhow::Result<String> {
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    write!(terminal, "{question}")?;
    Ok(read_line(terminal)?.to_string())
}

/// Reads a line, and returns it without its end.
fn read_line(input: impl Read) -> anyhow::Result<Zeroizing<String>> {
    // With its capacity, the text is never moved, so no copy of a password remains.
    let mut line = Zeroizing::new(String::with_capacity(MAX_LINE_BYTES + 1));
    let limit = u64::try_from(MAX_LINE_BYTES + 1)?;
    BufReader::new(input.take(limit)).read_line(&mut line)?;
    anyhow::ensure!(line.len() <= MAX_LINE_BYTES, "the line is longer than {MAX_LINE_BYTES} bytes");
    let length = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(length);
    anyhow::ensure!(!line.is_empty(), "the line is empty");
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_is_the_first_line_with_its_spaces() {
        for input in ["a b \n", "a b \r\n", "a b ", "a b \nmore\n"] {
            assert_eq!(*read_line(input.as_bytes()).expect("a line"), "a b ");
        }
    }

    #[test]
    fn empty_and_endless_input_is_refused() {
        assert!(read_line(&b""[..]).is_err() && read_line(&b"\n"[..]).is_err());
        assert!(read_line(io::repeat(b'a')).is_err());
    }
}
