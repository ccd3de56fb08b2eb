//! The audiences of access tokens: that of this server, and those that only a token exchange can request.

use service_kit::{ops::config::TokenArgs, status::ApiError};

use crate::{config::ExchangeArgs, error, model::audience::Audience};

/// Maximum number of audiences besides that of this server.
const MAX_AUDIENCES: usize = 16;

/// The audiences of the tokens that this server issues.
#[derive(Debug)]
pub struct Audiences {
    /// That of this server and of all tokens that are not exchanged.
    own: String,
    /// Those that a token exchange can request as well.
    further: Vec<String>,
}

impl Audiences {
    /// Creates the audiences from the settings.
    ///
    /// # Errors
    /// If there are too many.
    pub fn new(token_args: &TokenArgs, args: &ExchangeArgs) -> anyhow::Result<Self> {
        let further: Vec<_> = args.exchange_audiences.iter().map(|Audience(name)| name.clone()).collect();
        anyhow::ensure!(further.len() <= MAX_AUDIENCES, "--exchange-audience has more than {MAX_AUDIENCES} values");
        Ok(Self { own: token_args.audience.clone(), further })
    }

    /// Returns the audiences besides that of this server.
    #[must_use]
    pub fn further(&self) -> &[String] {
        &self.further
    }

    /// Returns the audience of this server.
    #[must_use]
    pub fn own(&self) -> &str {
        &self.own
    }

    /// Returns the audience that the parameters `audience` and `resource` of a request name, by default that of this server.
    ///
    /// # Errors
    /// VALIDATION_FAILED with `invalid_target` if they name another one, or different ones.
    pub fn requested(&self, audience: &str, resource: &str, is_exchange: bool) -> Result<&str, ApiError> {
        let (field, name) = match (audience, resource) {
            ("", "") => return Ok(&self.own),
            (_, "") => ("audience", audience),
            ("", _) => ("resource", resource),
            _ if audience == resource => ("audience", audience),
            _ => return Err(invalid_target("resource", "must be the same as `audience`")),
        };
        let further = if is_exchange { &self.further[..] } else { &[] };
        let known = std::iter::once(&self.own).chain(further).find(|known| *known == name);
        let known =
            known.ok_or_else(|| invalid_target(field, "is not an audience that this grant type can request"))?;
        Ok(known)
    }
}

fn invalid_target(field: &'static str, violation: &'static str) -> ApiError {
    error::oauth(error::request_invalid(field, violation), "invalid_target")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_at_most_sixteen() {
        let token_args = TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() };
        let args = |count: usize| ExchangeArgs { exchange_audiences: vec![Audience("reports".to_owned()); count] };
        assert!(Audiences::new(&token_args, &args(16)).is_ok());
        assert!(Audiences::new(&token_args, &args(17)).is_err());
    }
}
