//! What a handler may answer instead of data.

use std::collections::BTreeMap;

/// A refusal in PVE's shapes (proxmox-ve.md §2.1, §2.2).
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) code: u16,
    /// Whole text; its first line is the reason phrase.
    pub(crate) message: String,
    pub(crate) errors: BTreeMap<String, String>,
    pub(crate) body: Body,
}

/// What stands below the status line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Body {
    /// `{"data":null,"message":"…\n"}`.
    Json,
    /// The same without the line feed (unknown routes, §17.c11).
    JsonBare,
    /// The message as plain text.
    Plain,
    /// Nothing: 401 and 59x.
    Empty,
}

impl ApiError {
    pub(crate) fn new(code: u16, message: impl Into<String>) -> Self {
        let body = if code == 401 || code >= 590 { Body::Empty } else { Body::Json };
        ApiError { code, message: message.into(), errors: BTreeMap::new(), body }
    }

    /// A `die` in a handler: 500 with that text.
    pub(crate) fn die(message: impl Into<String>) -> Self {
        Self::new(500, message)
    }

    pub(crate) fn plain(code: u16, message: impl Into<String>) -> Self {
        ApiError { body: Body::Plain, ..Self::new(code, message) }
    }

    /// `raise_param_exc` and schema violations.
    pub(crate) fn param(name: &str, message: impl Into<String>) -> Self {
        Self::params(BTreeMap::from([(name.to_owned(), message.into())]))
    }

    pub(crate) fn params(errors: BTreeMap<String, String>) -> Self {
        ApiError { errors, ..Self::new(400, "Parameter verification failed.") }
    }

    /// `raise_perm_exc`: with nothing, the bare text.
    pub(crate) fn forbid(what: &str) -> Self {
        let text = "Permission check failed";
        Self::new(403, if what.is_empty() { text.to_owned() } else { format!("{text} ({what})") })
    }

    /// How a task reports it: a permission failure keeps its code (proxmox-ve.md §17.c4).
    pub(crate) fn in_task(&self) -> String {
        match self.code {
            403 => format!("403 {}", self.message),
            400 if !self.errors.is_empty() => {
                let lines: Vec<_> = self.errors.iter().map(|(name, text)| format!("{name}: {text}")).collect();
                format!("400 {} {}", self.message, lines.join(" "))
            }
            _ => self.message.clone(),
        }
    }
}

/// What a handler answers.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) data: serde_json::Value,
    pub(crate) total: Option<usize>,
}

impl From<serde_json::Value> for Reply {
    fn from(data: serde_json::Value) -> Self {
        Reply { data, total: None }
    }
}

pub(crate) type Answer = Result<Reply, ApiError>;
