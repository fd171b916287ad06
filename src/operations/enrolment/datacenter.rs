//! Options of a cluster's datacenter that the federation takes over: opt-in, for they affect every user of the cluster, and put
//! back as they were when it lets go of them. Proxmox VE takes no digest there: one writer per process, write, read back
//! (`proxmox-ve.md` §16).
use std::collections::BTreeMap;

use federation::model::Datacenter;
use proxmox::Params;
use serde_json::Value;

use super::untouched;
use crate::failure::Failure;
use crate::site::Site;

/// The options that may be taken over; Proxmox VE's names.
pub(super) const OPTIONS: [&str; 3] = ["next-id", "mac_prefix", "bwlimit"];

/// Options by name, in [`canonical`] spelling.
pub(super) type Options = BTreeMap<String, String>;

/// What becomes of the options.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Turn {
    /// Let go of, with what they were before.
    released: BTreeMap<String, Option<String>>,
    /// Taken over, or set again.
    taken: Options,
    /// What the record says afterwards.
    pub(super) held: Datacenter,
    /// Options that somebody else has changed since, which stay as they are.
    pub(super) left: Vec<String>,
}

impl Turn {
    /// From what holds `now` and what the record says to what is `wanted`.
    pub(super) fn new(now: &Options, held: &Datacenter, wanted: &Options) -> Turn {
        let mut turn = Turn::default();
        for (option, wanted) in wanted {
            let former = held.former.get(option).cloned().unwrap_or_else(|| now.get(option).cloned());
            turn.held.set.insert(option.clone(), wanted.clone());
            turn.held.former.insert(option.clone(), former);
            if now.get(option) != Some(wanted) {
                turn.taken.insert(option.clone(), wanted.clone());
            }
        }
        for (option, former) in held.former.iter().filter(|(option, _)| !wanted.contains_key(*option)) {
            let is = now.get(option);
            if is == former.as_ref() {
                continue;
            }
            if is == held.set.get(option) {
                turn.released.insert(option.clone(), former.clone());
            } else {
                turn.left.push(format!("{option} is {} now", is.map_or("not set", String::as_str)));
            }
        }
        turn
    }

    /// Whether the cluster's options change.
    pub(super) fn is_nothing(&self) -> bool {
        self.released.is_empty() && self.taken.is_empty()
    }
}

/// One spelling per meaning: the entries of a property string in the order of their keys.
fn canonical(text: &str) -> String {
    let mut parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    parts.sort_unstable();
    parts.join(",")
}

/// An option as Proxmox VE answers it: a text, or a map where it takes it apart.
fn spelled(value: &Value) -> Option<String> {
    let plain = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match value {
        Value::Object(map) => {
            let parts: Option<Vec<String>> =
                map.iter().map(|(key, value)| Some(format!("{key}={}", plain(value)?))).collect();
            Some(canonical(&parts?.join(",")))
        }
        other => Some(canonical(&plain(other)?)),
    }
}

impl Site {
    /// The options as they are.
    ///
    /// # Errors
    /// A missing right, by name; what Proxmox VE said.
    pub(super) async fn datacenter(&self, what: &str) -> Result<Options, Failure> {
        self.need_right(what, "/", "Sys.Audit").await?;
        let all = self.client.cluster_options().await.map_err(|error| {
            untouched(what, format!("cluster {}: its datacenter options can't be read", self.name))
                .said(error)
                .next("apply again when the cluster answers")
        })?;
        let ours = OPTIONS.iter().filter_map(|option| {
            let text = spelled(all.get(*option)?)?;
            let text = if *option == "mac_prefix" { text.to_uppercase() } else { text };
            Some(((*option).to_owned(), text))
        });
        Ok(ours.collect())
    }

    /// Puts released options back.
    pub(super) async fn release(&self, what: &str, turn: &Turn) -> Result<(), Failure> {
        self.set_datacenter(what, &turn.released).await
    }

    /// Sets options that are taken over: after the record says what they were.
    pub(super) async fn take(&self, what: &str, turn: &Turn) -> Result<(), Failure> {
        let taken = turn.taken.iter().map(|(option, value)| (option.clone(), Some(value.clone())));
        self.set_datacenter(what, &taken.collect()).await
    }

    async fn set_datacenter(&self, what: &str, changes: &BTreeMap<String, Option<String>>) -> Result<(), Failure> {
        if changes.is_empty() {
            return Ok(());
        }
        let document = self.document("/cluster/options").await;
        let _only_writer = document.lock().await;
        let mut params = Params::new();
        for (option, value) in changes {
            params = params.opt(option.as_str(), value.as_ref());
        }
        let gone: Vec<&str> =
            changes.iter().filter(|(_, value)| value.is_none()).map(|(option, _)| option.as_str()).collect();
        if !gone.is_empty() {
            params = params.list("delete", gone);
        }
        let names: Vec<&str> = changes.keys().map(String::as_str).collect();
        let failed = |place: String| {
            Failure::new(what)
                .at(place)
                .state(format!("{} of the datacenter may or may not be as planned", names.join(", ")))
                .next("plan again, and apply")
        };
        match self.client.set_cluster_options(params).await {
            // What holds is read next.
            Err(error) if !error.is_ambiguous() => {
                return Err(failed(format!("cluster {}, datacenter options", self.name)).said(error));
            }
            _ => {}
        }
        let now = self.datacenter(what).await?;
        let differs = changes.iter().find(|(option, value)| now.get(*option) != value.as_ref());
        differs.map_or(Ok(()), |(option, _)| {
            Err(failed(format!("cluster {}: somebody else writes {option} of the datacenter", self.name)))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn options(of: &[(&str, &str)]) -> Options {
        of.iter().map(|(option, value)| ((*option).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_was_there_before_is_kept_and_comes_back() {
        let before = options(&[("mac_prefix", "BC:24:11")]);
        let wanted = options(&[("mac_prefix", "02:00:01"), ("bwlimit", "restore=1000")]);
        let taken = Turn::new(&before, &Datacenter::default(), &wanted);
        assert_eq!(taken.taken, wanted);
        let former: BTreeMap<String, Option<String>> =
            [("mac_prefix".to_owned(), Some("BC:24:11".to_owned())), ("bwlimit".to_owned(), None)].into();
        assert_eq!(taken.held, Datacenter { set: wanted.clone(), former: former.clone() });
        assert!(Turn::new(&wanted, &taken.held, &wanted).is_nothing());
        // Changed again, the first value is still the former one.
        let next = options(&[("mac_prefix", "02:00:02")]);
        let changed = Turn::new(&wanted, &taken.held, &next);
        assert_eq!(changed.held.former, [("mac_prefix".to_owned(), Some("BC:24:11".to_owned()))].into());
        assert_eq!(changed.released, [("bwlimit".to_owned(), None)].into());
        let gone = Turn::new(&wanted, &taken.held, &Options::new());
        assert_eq!((gone.released, gone.held), (former, Datacenter::default()));
    }

    #[test]
    fn what_somebody_else_has_changed_since_stays() {
        let held = Datacenter {
            set: options(&[("mac_prefix", "02:00:01")]),
            former: [("mac_prefix".to_owned(), Some("BC:24:11".to_owned()))].into(),
        };
        let theirs = Turn::new(&options(&[("mac_prefix", "AA:AA:AA")]), &held, &Options::new());
        assert!(theirs.is_nothing() && theirs.left == ["mac_prefix is AA:AA:AA now"], "{theirs:?}");
        let back = Turn::new(&options(&[("mac_prefix", "BC:24:11")]), &held, &Options::new());
        assert!(back.is_nothing() && back.left.is_empty(), "one that was put back already is done");
    }

    #[test]
    fn an_option_is_spelled_one_way_however_it_is_answered() {
        assert_eq!(spelled(&json!({"upper": "2000", "lower": 100})).as_deref(), Some("lower=100,upper=2000"));
        assert_eq!(spelled(&json!("restore=1000,clone=5")).as_deref(), Some("clone=5,restore=1000"));
        assert_eq!(spelled(&json!(["x"])), None);
    }
}
