//! What was asked of the simulator and what it answered, without secrets.

use std::collections::BTreeMap;

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Position in the log of the whole federation, from 1; never used twice.
    pub sequence: u64,
    /// Cluster by its name in the world.
    pub cluster: String,
    /// HTTP method.
    pub method: String,
    /// Path below `/api2/json`, decoded.
    pub path: String,
    /// Parameters; values of secrets are `***`.
    pub params: BTreeMap<String, String>,
    /// Status, or 0 when the connection ended without an answer.
    pub status: u16,
    /// Who asked: `user@realm!token`, `user@realm`, or empty.
    pub user: String,
    /// Clusters' time, milliseconds since 1970.
    pub at: i64,
}

#[derive(Default)]
pub(crate) struct RequestLog {
    pub(crate) entries: Vec<Request>,
    pub(crate) count: u64,
}

const SECRETS: [&str; 6] = ["password", "cipassword", "apitoken", "target-endpoint", "new-password", "secret"];

impl RequestLog {
    /// Writes a request down; the status comes later.
    pub(crate) fn open(
        &mut self,
        cluster: &str,
        method: &str,
        path: &str,
        params: &BTreeMap<String, String>,
        user: &str,
        at: i64,
    ) -> u64 {
        self.count += 1;
        let params = params
            .iter()
            .map(|(key, value)| {
                let value = if SECRETS.contains(&key.as_str()) { "***".to_owned() } else { value.clone() };
                (key.clone(), value)
            })
            .collect();
        self.entries.push(Request {
            sequence: self.count,
            cluster: cluster.to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            params,
            status: 0,
            user: user.to_owned(),
            at,
        });
        self.count
    }

    pub(crate) fn close(&mut self, sequence: u64, status: u16) {
        if let Some(entry) = self.entries.iter_mut().rev().find(|entry| entry.sequence == sequence) {
            entry.status = status;
        }
    }
}
