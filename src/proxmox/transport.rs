//! Owns one HTTP exchange with one endpoint: what is sent, and what an answer means.

use std::{collections::BTreeMap, error::Error as StdError, time::Duration};

use reqwest::{
    Method, Response,
    header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderValue},
};
use serde_json::Value;

use crate::{Attempt, Call, ClusterConnection, Error, Refusal, Result, Route, ServerTime, TlsTrust, tls};

/// PVE closes idle connections after 5 s; we must be earlier (`proxmox-ve.md` §2.5).
const IDLE: Duration = Duration::from_secs(4);
/// Idle connections kept per cluster: as many as [`crate::Limits`] lets be under way, or a refresh would set up TLS again and again.
const KEPT: usize = 32;

/// The two HTTP clients of a connection. They share the TLS session store.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    /// For reads: connections are kept for a while.
    reads: reqwest::Client,
    /// For writes: a connection of its own each time. A kept one may be closed by the server just as we write, and
    /// then nobody knows whether the write was executed. PVE closes after most writes anyway (§17.c2).
    writes: reqwest::Client,
    /// Which way leads to the endpoints, for what is said of one that can't be reached.
    route: Route,
}

/// A successful answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub data: Value,
    /// The number of lines or entries there are, in lists that are paged.
    pub total: Option<u64>,
}

/// How an exchange ended, if not with an HTTP answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing was sent.
    NotConnected(Attempt),
    /// Something was sent.
    Lost { cause: String, timeout: bool },
    /// The request could not even be written down.
    Invalid(String),
}

/// The parts of an HTTP answer that matter.
#[derive(Debug)]
pub(crate) struct Raw {
    pub status: u16,
    pub reason: String,
    pub time: Option<ServerTime>,
    pub body: Vec<u8>,
}

impl Transport {
    pub(crate) fn new(connection: &ClusterConnection) -> Result<Self> {
        if matches!(connection.tls, TlsTrust::Insecure) {
            tracing::warn!(cluster = %connection.name, "server certificates are not checked");
        }
        let name = &connection.name;
        let tls = tls::client_config(&connection.tls).map_err(|why| Error::config(name, why))?;
        let build = |idle: usize| {
            // Never the library's own reading of the environment: what is configured of the way is the connection's route.
            let builder = reqwest::Client::builder().no_proxy();
            let builder = connection.route.reqwest().into_iter().fold(builder, reqwest::ClientBuilder::proxy);
            builder
                .tls_backend_preconfigured(tls.clone())
                .http1_only()
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .connect_timeout(connection.connect_timeout)
                .timeout(connection.request_timeout)
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(idle)
                .user_agent(concat!("moxxie/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|e| Error::config(name, format!("no HTTP client can be set up: {}", chain(&e))))
        };
        Ok(Self { reads: build(KEPT)?, writes: build(0)?, route: connection.route.clone() })
    }

    /// One exchange. `encoded` goes into the query of a GET or DELETE, else into a sized form.
    pub(crate) async fn exchange(
        &self,
        base: &str,
        method: &Method,
        path: &str,
        encoded: &str,
        headers: HeaderMap,
    ) -> std::result::Result<Raw, Failure> {
        let in_query = *method == Method::GET || *method == Method::DELETE;
        let mut url = format!("{base}/api2/json{path}");
        if in_query && !encoded.is_empty() {
            url.push('?');
            url.push_str(encoded);
        }
        let client = if *method == Method::GET { &self.reads } else { &self.writes };
        let mut request = client.request(method.clone(), url).headers(headers);
        if !in_query {
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            // Said even when it is 0, which the HTTP library would leave out.
            let length = HeaderValue::from(encoded.len());
            request = request.header(CONTENT_TYPE, form).header(CONTENT_LENGTH, length).body(encoded.to_owned());
        }
        let mut response = request.send().await.map_err(|e| failure(base, self.route.shown(base), &e))?;
        let (status, reason) = (response.status().as_u16(), reason_phrase(&response));
        let date = response.headers().get(DATE).and_then(|value| value.to_str().ok());
        let time = date.and_then(ServerTime::from_header);
        let mut body = Vec::new();
        // An error's body may be cut off (PVE closes early); its status line says enough.
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(_) if status >= 400 => break,
                Err(e) => return Err(Failure::Lost { cause: chain(&e.without_url()), timeout: false }),
            }
        }
        Ok(Raw { status, reason, time, body })
    }
}

/// The text of the status line. hyper keeps it only where it differs from the canonical one, and as nothing where it
/// is not ASCII; then the canonical one is better than none.
fn reason_phrase(response: &Response) -> String {
    let phrase = response.extensions().get::<hyper::ext::ReasonPhrase>();
    let said = phrase.map(|phrase| String::from_utf8_lossy(phrase.as_bytes()).trim().to_owned());
    said.filter(|text| !text.is_empty())
        .unwrap_or_else(|| response.status().canonical_reason().unwrap_or_default().to_owned())
}

/// What a failed exchange is; `via`: the proxy it went through.
fn failure(base: &str, via: Option<&str>, error: &reqwest::Error) -> Failure {
    if error.is_builder() {
        return Failure::Invalid(chain(error));
    }
    if error.is_connect() {
        let tls = tls::find_failure(error);
        let cause = match &tls {
            Some(failure) => failure.to_string(),
            None if error.is_timeout() => "no connection in time".to_owned(),
            // The client's own words for a proxy that says no.
            None => causes(error).replace("tunnel error: unsuccessful", "it refuses to connect there"),
        };
        let cause = match via {
            Some(via) => format!("through {via} (`direct = true` or NO_PROXY goes without): {cause}"),
            None => cause,
        };
        return Failure::NotConnected(Attempt { endpoint: base.to_owned(), cause, tls });
    }
    let timeout = error.is_timeout();
    let cause = if timeout { "no answer in time".to_owned() } else { causes(error) };
    Failure::Lost { cause, timeout }
}

/// An error with all its causes. Contains no URL if the error doesn't.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    text.push_str(": ");
    text.push_str(&causes(error));
    text.trim_end_matches(": ").to_owned()
}

/// The causes of an error without its own text (reqwest's repeats the URL); each said once.
fn causes(error: &dyn StdError) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(current) = next {
        let text = current.to_string();
        if !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
        next = current.source();
    }
    texts.join(": ")
}

impl Raw {
    /// What the answer means for a call. `scrub` takes secrets out of the server's words.
    pub(crate) fn interpret(self, call: Call, scrub: impl Fn(&str) -> String) -> Result<Answer> {
        let json: Option<Value> = serde_json::from_slice(&self.body).ok();
        if self.status >= 400 {
            return Err(Error::Refused(Box::new(self.refusal(call, json.as_ref(), scrub))));
        }
        if self.status >= 300 {
            return Err(Error::unexpected(call, format!("status {} {}", self.status, scrub(&self.reason))));
        }
        let Some(Value::Object(mut envelope)) = json else {
            return Err(Error::unexpected(call, "the body is not the JSON object every answer is"));
        };
        let total = envelope.get("total").and_then(crate::de::as_u64);
        match envelope.remove("data") {
            Some(data) => Ok(Answer { data, total }),
            None => Err(Error::unexpected(call, "the JSON object has no `data`")),
        }
    }

    /// PVE >= 8.3 repeats the message in the body, older ones have it in the status line only (§2.1); 501 and 506
    /// may have it as plain text (§17.c11).
    fn refusal(&self, call: Call, json: Option<&Value>, scrub: impl Fn(&str) -> String) -> Refusal {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let said = json.and_then(|json| json.get("message")).map(text);
        let message = said
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())
            .or_else(|| Some(self.reason.clone()).filter(|reason| !reason.is_empty()))
            .unwrap_or_else(|| String::from_utf8_lossy(&self.body).trim().chars().take(500).collect());
        let errors: BTreeMap<String, String> = match json.and_then(|json| json.get("errors")) {
            Some(Value::Object(map)) => {
                map.iter().map(|(key, value)| (key.clone(), scrub(text(value).trim()))).collect()
            }
            _ => BTreeMap::new(),
        };
        Refusal { call, status: self.status, message: scrub(&message), errors }
    }
}
