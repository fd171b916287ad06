//! Owns the client of one cluster: endpoint failover, limits, login, and when a call is repeated.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use reqwest::{Method, header::HeaderMap};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    Auth, Call, ClusterConnection, Error, Limits, Params, Result, ServerTime, Settings, de,
    params::{is_sound_path, telling},
    session::{Freshness, Session, Ticket, handed_over},
    transport::{Answer, Failure, Raw, Transport},
};

/// Shorter secrets are not looked for in the server's words: they would tear words apart that decide what an error
/// means. PVE repeats no credential by itself.
const SCRUBBED: usize = 6;

/// A client of one cluster. Cheap to clone; clones share connections, ticket, clock and limits.
///
/// Calls go to the endpoint that answered last; when it cannot be connected to, to the next. A GET is repeated a few
/// times ([`Settings::get_retries`]) after a reset, 595 or 596. Anything else is never repeated once it may have
/// been sent: see [`Error::is_ambiguous`].
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    endpoints: Vec<String>,
    /// The endpoint to begin with.
    good: AtomicUsize,
    transport: Transport,
    session: Arc<Session>,
    migration_token: Option<SecretString>,
    limits: Limits,
    settings: Settings,
    time: Mutex<Option<ServerTime>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("cluster", &self.inner.name)
            .field("endpoints", &self.inner.endpoints)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client with default [`Settings`]. Connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::Config`] when endpoints, credentials or trust cannot work.
    pub fn new(connection: ClusterConnection, limits: Limits) -> Result<Self> {
        Self::with_settings(connection, limits, Settings::default())
    }

    /// A client with these settings.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_settings(connection: ClusterConnection, limits: Limits, settings: Settings) -> Result<Self> {
        let endpoints = connection.base_urls()?;
        let session = Session::new(&connection.name, &connection.auth)?;
        let token = connection.migration_token.as_ref();
        let migration_token = token.map(|token| handed_over(&connection.name, token)).transpose()?;
        let transport = Transport::new(&connection)?;
        let inner = Inner {
            name: connection.name,
            endpoints,
            good: AtomicUsize::new(0),
            transport,
            session: Arc::new(session),
            migration_token,
            limits,
            settings,
            time: Mutex::new(None),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.inner.name
    }

    /// The endpoint calls go to at the moment.
    pub fn endpoint(&self) -> &str {
        let index = self.inner.good.load(Ordering::Relaxed) % self.inner.endpoints.len();
        &self.inner.endpoints[index]
    }

    /// Every endpoint, as a URL without path.
    pub fn endpoints(&self) -> &[String] {
        &self.inner.endpoints
    }

    /// The same client at one endpoint alone.
    pub(crate) fn only_at(&self, endpoint: &str) -> Client {
        self.varied(vec![endpoint.to_owned()], self.inner.session.clone())
    }

    /// The same cluster, as the holder of this token.
    ///
    /// # Errors
    /// [`Error::Config`] for what is no token.
    pub fn with_token(&self, token: &SecretString) -> Result<Client> {
        let session = Session::new(&self.inner.name, &Auth::Token(token.clone()))?;
        Ok(self.varied(self.inner.endpoints.clone(), Arc::new(session)))
    }

    fn varied(&self, endpoints: Vec<String>, session: Arc<Session>) -> Client {
        let inner = &*self.inner;
        let inner = Inner {
            name: inner.name.clone(),
            endpoints,
            good: AtomicUsize::new(0),
            transport: inner.transport.clone(),
            session,
            migration_token: inner.migration_token.clone(),
            limits: inner.limits.clone(),
            settings: inner.settings.clone(),
            time: Mutex::new(None),
        };
        Client { inner: Arc::new(inner) }
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The token of this cluster that may be handed to another one, `USER@REALM!TOKENID=UUID` without prefix or comma;
    /// None where none is configured. It is never the one that calls are made with, unless that was configured twice.
    pub fn migration_token(&self) -> Option<&SecretString> {
        self.inner.migration_token.as_ref()
    }

    /// The cluster's clock as of its last answer; None before the first.
    pub fn server_time(&self) -> Option<ServerTime> {
        *self.inner.time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// GET of a path below `/api2/json` (see [`crate::api_path`]), decoded.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::Unexpected`] if the answer does not decode.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, params: Params) -> Result<T> {
        let answer = self.call(Method::GET, path, &params).await?;
        self.decode("GET", path, answer.data)
    }

    /// POST. `data` of the answer as it is: a UPID, null, or something else.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn post(&self, path: &str, params: Params) -> Result<Value> {
        Ok(self.call(Method::POST, path, &params).await?.data)
    }

    /// PUT.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn put(&self, path: &str, params: Params) -> Result<Value> {
        Ok(self.call(Method::PUT, path, &params).await?.data)
    }

    /// DELETE; the parameters go into the query.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn delete(&self, path: &str, params: Params) -> Result<Value> {
        Ok(self.call(Method::DELETE, path, &params).await?.data)
    }

    pub(crate) fn decode<T: DeserializeOwned>(&self, method: &str, path: &str, data: Value) -> Result<T> {
        T::deserialize(data).map_err(|e| Error::unexpected(self.describe(method, path), e.to_string()))
    }

    pub(crate) fn describe(&self, method: &str, path: &str) -> Call {
        Call {
            cluster: self.inner.name.clone(),
            method: method.to_owned(),
            path: path.to_owned(),
            endpoint: self.endpoint().to_owned(),
        }
    }

    /// One call, repeated where that is harmless.
    pub(crate) async fn call(&self, method: Method, path: &str, params: &Params) -> Result<Answer> {
        if !is_sound_path(path) {
            return Err(Error::config(&self.inner.name, format!("`{path}` is not a path of the API")));
        }
        let settings = &self.inner.settings;
        let mut wait = settings.get_retry_first;
        let mut left = if method == Method::GET { settings.get_retries } else { 0 };
        loop {
            match self.once(&method, path, params).await {
                Err(error) if left > 0 && is_passing(&error) => {
                    left -= 1;
                    tracing::debug!(cluster = %self.inner.name, path, %error, "reading again");
                    self.prefer_another();
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(settings.get_retry_max);
                }
                result => return result,
            }
        }
    }

    /// One call with credentials; after a 401 for a ticket, once more with a new ticket (a 401 executes nothing).
    async fn once(&self, method: &Method, path: &str, params: &Params) -> Result<Answer> {
        let _permit = self.inner.limits.acquire(&self.inner.name, node_of(path)).await;
        let (headers, generation) = self.credentials(method, None).await?;
        let first = self.over_endpoints(method, path, params, headers).await;
        match (first, generation) {
            (Err(error), Some(generation)) if error.is_auth() => {
                tracing::debug!(cluster = %self.inner.name, "ticket refused, logging in again");
                let (headers, _) = self.credentials(method, Some(generation)).await?;
                self.over_endpoints(method, path, params, headers).await
            }
            (result, _) => result,
        }
    }

    /// The headers to send, and which ticket they carry. `refused` is a ticket that is not to be used any more.
    async fn credentials(&self, method: &Method, refused: Option<u64>) -> Result<(HeaderMap, Option<u64>)> {
        let (username, password, slot) = match &*self.inner.session {
            Session::Token(value, _) => return Ok((Session::token_headers(value), None)),
            Session::Password { username, password, ticket } => (username, password, ticket),
        };
        // Held over the login, so that concurrent calls share one.
        let mut slot = slot.lock().await;
        let usable = slot.as_ref().filter(|ticket| Some(ticket.generation) != refused);
        let next = slot.as_ref().map_or(1, |ticket| ticket.generation + 1);
        let ticket = match usable.map(|ticket| (ticket, ticket.freshness(self.inner.settings.ticket_renew_after))) {
            Some((ticket, Freshness::Good)) => ticket.clone(),
            Some((ticket, Freshness::Renew)) => match self.login(username, &ticket.ticket, next).await {
                Ok(renewed) => renewed,
                Err(error) if error.is_auth() => self.login(username, password, next).await?,
                // The old one is good for a while yet.
                Err(_) => ticket.clone(),
            },
            Some((_, Freshness::Expired)) | None => self.login(username, password, next).await?,
        };
        let headers = ticket.headers(&self.inner.name, *method != Method::GET)?;
        let generation = ticket.generation;
        *slot = Some(ticket);
        Ok((headers, Some(generation)))
    }

    async fn login(&self, username: &str, password: &SecretString, generation: u64) -> Result<Ticket> {
        let path = "/access/ticket";
        let params = Params::new().set("username", username).secret("password", password.clone());
        let answer = self.over_endpoints(&Method::POST, path, &params, HeaderMap::new()).await?;
        if de::field(&answer.data, "NeedTFA").is_some_and(|v| de::as_bool(v) == Some(true)) {
            return Err(Error::config(
                &self.inner.name,
                format!("user {username} needs a second factor: use an API token instead"),
            ));
        }
        let text = |key: &str| {
            let found = de::field(&answer.data, key).and_then(Value::as_str);
            found.map(SecretString::from).ok_or_else(|| {
                Error::unexpected(self.describe("POST", path), format!("the login's answer has no `{key}`"))
            })
        };
        let (ticket, csrf) = (text("ticket")?, text("CSRFPreventionToken")?);
        Ok(Ticket { ticket, csrf, since: Instant::now(), generation })
    }

    /// The call at the endpoint that answered last; while nothing was sent, at the others in turn.
    async fn over_endpoints(&self, method: &Method, path: &str, params: &Params, headers: HeaderMap) -> Result<Answer> {
        let inner = &*self.inner;
        let encoded = params.encode();
        let count = inner.endpoints.len();
        let start = inner.good.load(Ordering::Relaxed);
        let mut call = self.describe(method.as_str(), path);
        let mut attempts = Vec::new();
        for index in (start..start + count).map(|i| i % count) {
            let base = &inner.endpoints[index];
            call.endpoint.clone_from(base);
            let began = Instant::now();
            match inner.transport.exchange(base, method, path, &encoded, headers.clone()).await {
                Ok(raw) => {
                    inner.good.store(index, Ordering::Relaxed);
                    let ms = began.elapsed().as_millis();
                    tracing::debug!(cluster = %inner.name, %method, path, status = raw.status, ms, "called");
                    return self.heard(raw, call, params);
                }
                Err(Failure::NotConnected(attempt)) => {
                    tracing::warn!(cluster = %inner.name, endpoint = %base, cause = %attempt.cause, "not connected");
                    attempts.push(attempt);
                }
                Err(Failure::Lost { cause, timeout }) => {
                    // Looking after this call is best begun elsewhere.
                    inner.good.store((index + 1) % count, Ordering::Relaxed);
                    return Err(Error::Lost { call: Box::new(call), cause, timeout });
                }
                Err(Failure::Invalid(why)) => return Err(Error::config(&inner.name, why)),
            }
        }
        Err(Error::Unreachable { call: Box::new(call), attempts })
    }

    fn heard(&self, raw: Raw, call: Call, params: &Params) -> Result<Answer> {
        if raw.time.is_some() {
            *self.inner.time.lock().unwrap_or_else(PoisonError::into_inner) = raw.time;
        }
        raw.interpret(call, |text| self.scrub(params, text))
    }

    /// The server's words without the secrets of a call and those of the connection.
    pub(crate) fn scrub(&self, params: &Params, words: &str) -> String {
        let inner = &*self.inner;
        let handed = inner.migration_token.iter().flat_map(|token| telling(token.expose_secret()));
        let known = std::iter::once(inner.session.secret().expose_secret()).chain(handed);
        params
            .secrets()
            .chain(known)
            .filter(|secret| secret.len() >= SCRUBBED)
            .fold(words.to_owned(), |words, secret| words.replace(secret, "[redacted]"))
    }

    /// Begins the next call at another endpoint.
    fn prefer_another(&self) {
        let next = (self.inner.good.load(Ordering::Relaxed) + 1) % self.inner.endpoints.len();
        self.inner.good.store(next, Ordering::Relaxed);
    }
}

/// Whether reading again soon may help: the answer was lost other than by our own timeout, or the entry node could
/// not ask the target node.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::Lost { timeout, .. } => !timeout,
        _ => matches!(error.status(), Some(595..=599)),
    }
}

/// The node a path is about; the entry node is the empty name.
fn node_of(path: &str) -> &str {
    match path.strip_prefix("/nodes/") {
        Some(rest) => rest.split('/').next().unwrap_or_default(),
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_node_is_in_the_path() {
        assert_eq!(node_of("/nodes/pve1/qemu/100/config"), "pve1");
        assert_eq!(node_of("/nodes"), "");
        assert_eq!(node_of("/cluster/resources"), "");
    }
}
