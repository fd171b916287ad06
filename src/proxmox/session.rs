//! Owns who we are towards a cluster: the token's header, or a ticket and its renewal.

use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use crate::{Auth, Error, Result};

/// A ticket lives 2 h (`proxmox-ve.md` §1.1); near that it is not relied on even for its own renewal.
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
                let (text, secret) = token_parts(token.expose_secret()).map_err(|why| Error::config(cluster, why))?;
                let value = sensitive(cluster, &format!("PVEAPIToken={text}"), "the API token")?;
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

/// A token that may be handed to another cluster, as it is put there: with its user, without prefix.
pub(crate) fn handed_over(cluster: &str, token: &SecretString) -> Result<SecretString> {
    Session::new(cluster, &Auth::Token(token.clone()))?;
    let (text, _) = token_parts(token.expose_secret()).map_err(|why| Error::config(cluster, why))?;
    // It travels inside a list of properties, where a comma would begin the next one.
    if text.contains(',') {
        return Err(Error::config(cluster, "an API token with a comma can't be handed to another cluster"));
    }
    Ok(SecretString::from(text))
}

/// An API token without the prefix that is accepted before it, and its secret alone.
///
/// # Errors
/// What form it must have, without quoting it.
pub(crate) fn token_parts(text: &str) -> std::result::Result<(&str, &str), &'static str> {
    let text = text.trim();
    let text = text.strip_prefix("PVEAPIToken=").unwrap_or(text);
    let sound = |id: &str, secret: &str| {
        id.contains('@') && id.contains('!') && !secret.is_empty() && !text.contains([';', ' ', '%'])
    };
    text.split_once('=')
        .filter(|(id, secret)| sound(id, secret))
        .map(|(_, secret)| (text, secret))
        .ok_or("the API token must look like USER@REALM!TOKENID=UUID")
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

    #[test]
    fn a_token_is_handed_over_in_one_form_or_not_at_all() {
        let handed = |text: &str| handed_over("c", &text.into()).map(|token| token.expose_secret().to_owned());
        assert_eq!(handed(" PVEAPIToken=mover@pve!t=s3cret\n").unwrap(), "mover@pve!t=s3cret");
        for text in ["", "mover@pve!t=", "s3cret", "mover@pve!t=s3\ncret", "mover@pve!t=s3cret,host=elsewhere"] {
            let error = handed(text).unwrap_err().to_string();
            assert!(!error.contains("s3") && !error.contains("elsewhere"), "{error}");
        }
    }
}
