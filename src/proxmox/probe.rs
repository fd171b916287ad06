//! Owns asking some other web server for a sign of life. Here only because this crate is the one that speaks HTTP.

use std::{error::Error as StdError, time::Duration};

use crate::{TlsTrust, tls};

/// Asks `url` (`http` or `https`, certificates by the system's trust) once; whether the answer is 2xx or 3xx. A redirect is
/// an answer and is not followed.
///
/// # Errors
/// In words: no connection, no answer within `patience`, or the status that was answered instead.
pub async fn answers_http(url: &str, patience: Duration) -> Result<(), String> {
    let tls = tls::client_config(&TlsTrust::System)?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(patience)
        .user_agent(concat!("moxxie/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| error.to_string())?;
    let answer = client.get(url).send().await.map_err(|error| cause(&error))?;
    let status = answer.status();
    if status.is_success() || status.is_redirection() { Ok(()) } else { Err(format!("it answers {status}")) }
}

/// What is at the bottom of an error: "Connection refused", not "error sending request".
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let mut cause: &dyn StdError = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
