//! Owns who we are towards a cluster: the token's header, or a ticket and its renewal.

use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use crate::{Auth, Error, Result};

/// A ticket lives 2 h (`pve-behaviour.md` §1.1); near that it is not relied on even for its own renewal.
const EXPIRES_AFTER: Duration = Duration::from_secs(115 * 60);

const CSRF: HeaderName = HeaderName::from_static("csrfpreventiontoken");

/// What goes with a call.
#[derive(Debug)]
pub(crate) enum Session {
    Token(HeaderValue, SecretString),
    Password { username: String, password: SecretString, ticket: tokio::sync::Mutex<Option<Ticket>> },
}

/// A ticket as `POST /access/ticket` gave it.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    pub ticket: SecretString,
    pub csrf: SecretString,
    pub since: Instant,
    /// Counts logins, so that of many calls refused with one ticket only the first logs in again.
    pub generation: u64,
}

/// What a ticket's age asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    Good,
    Renew,
    Expired,
}

impl Ticket {
    pub(crate) fn freshness(&self, renew_after: Duration) -> Freshness {
        match self.since.elapsed() {
            age if age < renew_after.min(EXPIRES_AFTER) => Freshness::Good,
            age if age < EXPIRES_AFTER => Freshness::Renew,
            _ => Freshness::Expired,
        }
    }

    pub(crate) fn headers(&self, cluster: &str, write: bool) -> Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        let cookie = format!("PVEAuthCookie={}", encode(self.ticket.expose_secret()));
        headers.insert(COOKIE, sensitive(cluster, &cookie, "the ticket")?);
        if write {
            headers.insert(CSRF, sensitive(cluster, self.csrf.expose_secret(), "the CSRF token")?);
        }
        Ok(headers)
    }
}

/// A cookie is read up to `;` and unescaped; base64's `+`, `/` and `=` travel best escaped.
fn encode(ticket: &str) -> String {
    percent_encoding::utf8_percent_encode(ticket, percent_encoding::NON_ALPHANUMERIC).to_string()
}

impl Session {
    pub(crate) fn new(cluster: &str, auth: &Auth) -> Result<Self> {
        match auth {
            Auth::Token(token) => {
                let text = token.expose_secret().trim();
                let text = text.strip_prefix("PVEAPIToken=").unwrap_or(text);
                let sound = text.split_once('=').is_some_and(|(id, secret)| {
                    id.contains('@') && id.contains('!') && !secret.is_empty() && !text.contains([';', ' ', '%'])
                });
                if !sound {
                    return Err(Error::config(cluster, "the API token must look like USER@REALM!TOKENID=UUID"));
                }
                let value = sensitive(cluster, &format!("PVEAPIToken={text}"), "the API token")?;
                let secret = text.split_once('=').map_or("", |(_, secret)| secret);
                Ok(Self::Token(value, SecretString::from(secret)))
            }
            Auth::Password { username, password } => {
                let realm = if username.contains('@') { "" } else { "@pam" };
                Ok(Self::Password {
                    username: format!("{username}{realm}"),
                    password: password.clone(),
                    ticket: tokio::sync::Mutex::new(None),
                })
            }
        }
    }

    /// The headers of a token.
    pub(crate) fn token_headers(value: &HeaderValue) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.clone())])
    }

    /// The lasting secret, to be scrubbed from what the server says.
    pub(crate) fn secret(&self) -> &SecretString {
        match self {
            Self::Token(_, secret) => secret,
            Self::Password { password, .. } => password,
        }
    }
}

fn sensitive(cluster: &str, text: &str, what: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Error::config(cluster, format!("{what} holds a character that cannot be sent")))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_checked_without_being_shown() {
        for text in ["", "root@pam!t", "root@pam=s3cret", "root@pam!t=s3 cret", "root@pam!t=s3cret\n;"] {
            let error = Session::new("c", &Auth::Token(text.into())).unwrap_err().to_string();
            assert!(!error.contains("s3"), "{error}");
        }
        let session = Session::new("c", &Auth::Token("PVEAPIToken=root@pam!t=s3cret".into())).unwrap();
        assert!(!format!("{session:?}").contains("s3cret"));
    }
}
