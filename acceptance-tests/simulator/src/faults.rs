//! Injected faults and the gate that stops the world at the n-th call.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::tasks::Sabotage;

type Predicate = Arc<dyn Fn(&BTreeMap<String, String>) -> bool + Send + Sync>;
pub(crate) type Hook = Arc<dyn Fn(&Matched) + Send + Sync>;

/// What happens to a call that a rule matches.
#[derive(Clone)]
pub enum Action {
    /// Answered with this status and text, not done.
    Refuse(u16, String),
    /// Never answered; done first when `executed`.
    Hang {
        /// Whether the call takes effect.
        executed: bool,
    },
    /// Done, then the connection ends without an answer.
    DropAnswer,
    /// The connection ends, nothing is done.
    DropBefore,
    /// The task this call starts fails with the text: `late` after its work, else before it.
    FailTask {
        /// Exit status.
        message: String,
        /// After the data was written.
        late: bool,
    },
    /// The storage has no space left from then on.
    FillStorage(String),
    /// The cluster loses quorum, before the call is done.
    LoseQuorum,
    /// The node dies, before the call is done.
    KillNode(String),
    /// The node dies and comes back a minute later.
    RebootNode(String),
    /// Something of the test's own, before the call is counted or done. It may use the simulator's handles.
    Callback(Hook),
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Refuse(status, text) => write!(f, "Refuse({status}, {text})"),
            Action::Hang { executed } => write!(f, "Hang(executed: {executed})"),
            Action::DropAnswer => f.write_str("DropAnswer"),
            Action::DropBefore => f.write_str("DropBefore"),
            Action::FailTask { message, late } => write!(f, "FailTask({message}, late: {late})"),
            Action::FillStorage(storage) => write!(f, "FillStorage({storage})"),
            Action::LoseQuorum => f.write_str("LoseQuorum"),
            Action::KillNode(node) => write!(f, "KillNode({node})"),
            Action::RebootNode(node) => write!(f, "RebootNode({node})"),
            Action::Callback(_) => f.write_str("Callback"),
        }
    }
}

impl Action {
    /// An [`Action::Callback`].
    pub fn call(hook: impl Fn(&Matched) + Send + Sync + 'static) -> Action {
        Action::Callback(Arc::new(hook))
    }
}

/// A call a [`Action::Callback`] is told of.
#[derive(Debug, Clone)]
pub struct Matched {
    /// Cluster of the call.
    pub cluster: String,
    /// Method.
    pub method: String,
    /// Path below `/api2/json`.
    pub path: String,
}

/// Which of the matching calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nth {
    /// All of them.
    Every,
    /// The n-th alone, from 1.
    Only(u64),
    /// The n-th and all after it.
    From(u64),
}

/// A fault rule. Make one with [`Rule::on`].
#[derive(Clone)]
pub struct Rule {
    cluster: Option<String>,
    method: String,
    path: String,
    params: Option<Predicate>,
    nth: Nth,
    action: Action,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?} {:?} on {:?}", self.method, self.path, self.nth, self.action, self.cluster)
    }
}

impl Rule {
    /// A rule for a method (`*` for any) and a path below `/api2/json`, where `*` stands for any part of it:
    /// `Rule::on("POST", "/nodes/*/vzdump", Action::DropAnswer)`.
    pub fn on(method: &str, path: &str, action: Action) -> Rule {
        Rule { cluster: None, method: method.to_owned(), path: path.to_owned(), params: None, nth: Nth::Every, action }
    }

    /// Only calls to this cluster.
    #[must_use]
    pub fn cluster(mut self, name: &str) -> Rule {
        self.cluster = Some(name.to_owned());
        self
    }

    /// Only calls whose parameters satisfy this.
    #[must_use]
    pub fn params(mut self, wanted: impl Fn(&BTreeMap<String, String>) -> bool + Send + Sync + 'static) -> Rule {
        self.params = Some(Arc::new(wanted));
        self
    }

    /// Only these of the matching calls.
    #[must_use]
    pub fn nth(mut self, nth: Nth) -> Rule {
        self.nth = nth;
        self
    }

    fn matches(&self, call: &Matched, params: &BTreeMap<String, String>) -> bool {
        self.cluster.as_ref().is_none_or(|name| *name == call.cluster)
            && (self.method == "*" || self.method == call.method)
            && glob(&self.path, &call.path)
            && self.params.as_ref().is_none_or(|wanted| wanted(params))
    }
}

/// Identifies a rule, to take it away again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleId(u64);

/// The gate was reached.
#[derive(Debug, Clone)]
pub struct GateHit {
    /// The call that is held.
    pub call: Matched,
    /// Its sequence number in the request log.
    pub sequence: u64,
}

pub(crate) struct Gate {
    pub(crate) n: u64,
    pub(crate) executed: bool,
    pub(crate) told: Option<oneshot::Sender<GateHit>>,
    pub(crate) shut: bool,
}

#[derive(Default)]
pub(crate) struct Faults {
    rules: Vec<(RuleId, Rule, u64)>,
    next: u64,
    sabotage: Option<Sabotage>,
    pub(crate) gate: Option<Gate>,
    pub(crate) calls: u64,
}

/// What the gate says to a call.
pub(crate) enum Passage {
    Free,
    HoldBefore,
    HoldAfter,
}

impl Faults {
    pub(crate) fn add(&mut self, rule: Rule) -> RuleId {
        self.next += 1;
        self.rules.push((RuleId(self.next), rule, 0));
        RuleId(self.next)
    }

    pub(crate) fn remove(&mut self, id: RuleId) {
        self.rules.retain(|(other, _, _)| *other != id);
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
        self.sabotage = None;
    }

    /// How often a rule matched.
    pub(crate) fn hits(&self, id: RuleId) -> u64 {
        self.rules.iter().find(|(other, _, _)| *other == id).map_or(0, |(_, _, hits)| *hits)
    }

    /// The callbacks that a call sets off.
    pub(crate) fn hooks(&mut self, call: &Matched, params: &BTreeMap<String, String>) -> Vec<Hook> {
        let hooks = self.due(call, params, true).into_iter();
        hooks.filter_map(|action| if let Action::Callback(hook) = action { Some(hook) } else { None }).collect()
    }

    /// The other actions that apply to a call, in the order of their rules.
    pub(crate) fn matching(&mut self, call: &Matched, params: &BTreeMap<String, String>) -> Vec<Action> {
        self.due(call, params, false)
    }

    fn due(&mut self, call: &Matched, params: &BTreeMap<String, String>, callbacks: bool) -> Vec<Action> {
        let mut actions = Vec::new();
        for (_, rule, count) in &mut self.rules {
            let wanted = matches!(rule.action, Action::Callback(_)) == callbacks;
            if wanted && rule.matches(call, params) {
                *count += 1;
                let due = match rule.nth {
                    Nth::Every => true,
                    Nth::Only(n) => *count == n,
                    Nth::From(n) => *count >= n,
                };
                if due {
                    actions.push(rule.action.clone());
                }
            }
        }
        actions
    }

    pub(crate) fn sabotage(&mut self, sabotage: Option<Sabotage>) {
        self.sabotage = sabotage;
    }

    pub(crate) fn take_sabotage(&mut self) -> Option<Sabotage> {
        self.sabotage.take()
    }

    /// Counts a call and asks the gate.
    pub(crate) fn pass(&mut self, call: &Matched, sequence: u64) -> Passage {
        self.calls += 1;
        let calls = self.calls;
        let Some(gate) = &mut self.gate else { return Passage::Free };
        if gate.shut {
            return Passage::HoldBefore;
        }
        if calls != gate.n {
            return Passage::Free;
        }
        gate.shut = true;
        if gate.executed {
            return Passage::HoldAfter;
        }
        self.tell(call, sequence);
        Passage::HoldBefore
    }

    /// Tells the test that the gate's call is held.
    pub(crate) fn tell(&mut self, call: &Matched, sequence: u64) {
        if let Some(told) = self.gate.as_mut().and_then(|gate| gate.told.take()) {
            // A test that no longer listens is no reason to stop.
            let _ = told.send(GateHit { call: call.clone(), sequence });
        }
    }
}

/// `*` matches any run of characters.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(place) => rest = &rest[place + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn globs_match_whole_paths() {
        assert!(glob("/nodes/*/vzdump", "/nodes/pve1/vzdump"));
        assert!(!glob("/nodes/*/vzdump", "/nodes/pve1/vzdump/defaults"));
        assert!(glob("*", "/version"));
        assert!(!glob("/pools", "/pools/x"));
    }
}
