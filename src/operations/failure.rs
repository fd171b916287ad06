//! Owns the form of an error that a person reads: what failed, where, what Proxmox VE said, what runs where now, what to do.
use std::fmt::{self, Display};
use std::ops::{Deref, DerefMut};

/// An operation that failed, in the form of `formats.md`: five parts, of which only the first is always there.
///
/// Boxed, so that the way of success stays small; its parts are reached as if they were its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(Box<Parts>);

impl Deref for Failure {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl DerefMut for Failure {
    fn deref_mut(&mut self) -> &mut Parts {
        &mut self.0
    }
}

/// The parts of a [`Failure`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// What failed, in one line without a full stop: `Unable to create virtual machine web-1`.
    pub what: String,
    /// Cluster, node, object and numbers.
    pub place: String,
    /// What Proxmox VE said, with the call or task that said it.
    pub said: Option<String>,
    /// What runs where now, and what was changed.
    pub state: String,
    /// What to do next.
    pub next: String,
    /// What helps by means that only the caller has words for: the program that keeps the record of what is managed.
    pub remedy: Option<Remedy>,
    /// What kind of failure it is.
    pub kind: FailureKind,
}

/// Something to be done where the record of what is managed is kept. How that is typed is the caller's to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Take in an object that exists, by its id.
    Import(Object, String),
    /// Forget an object without removing it.
    Forget(Object),
    /// Forget it, and take it in again by its id: what is recorded of it can't be trusted.
    TakeInAgain(Object, String),
    /// Have what is recorded follow what is there.
    Follow,
    /// Name this object where others depend on it, so that the order is known.
    Refer(Object),
}

/// A kind of object that is managed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// A cluster's own record.
    Cluster,
    /// A resource pool.
    Pool,
    /// A virtual machine.
    Machine,
}

/// What a caller may conclude from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Nothing beyond its text.
    Plain,
    /// The plan no longer fits the facts: nothing was touched, and planning again is the way on.
    Stale,
    /// The user stopped it at a step boundary: what was done stays done, and applying again goes on.
    Interrupted,
    /// Another operation held the machine's configuration for long: nothing was written.
    Held,
    /// A moved machine was asked whether it is well, and is not.
    Unwell,
}

impl Failure {
    /// A failure of which only the first line is known yet.
    pub fn new(what: impl Into<String>) -> Failure {
        Failure(Box::new(Parts {
            what: what.into(),
            place: String::new(),
            said: None,
            state: String::new(),
            next: String::new(),
            remedy: None,
            kind: FailureKind::Plain,
        }))
    }

    /// The plan was made under other facts: refused before anything was touched.
    pub fn stale(what: impl Into<String>, changed: impl Display) -> Failure {
        let mut failure = Failure::new(what).at(format!("the plan is stale: {changed}"));
        failure.state = "nothing was touched".to_owned();
        failure.next = "plan again".to_owned();
        failure.kind = FailureKind::Stale;
        failure
    }

    /// Says where.
    pub fn at(mut self, place: impl Into<String>) -> Failure {
        self.place = place.into();
        self
    }

    /// Says what Proxmox VE answered.
    pub fn said(mut self, error: impl Display) -> Failure {
        self.said = Some(error.to_string());
        self
    }

    /// Says what runs where now and what was changed.
    pub fn state(mut self, state: impl Into<String>) -> Failure {
        self.state = state.into();
        self
    }

    /// Says what to do next.
    pub fn next(mut self, next: impl Into<String>) -> Failure {
        self.next = next.into();
        self
    }

    /// Says what helps where the record of what is managed is kept.
    pub fn remedy(mut self, remedy: Remedy) -> Failure {
        self.remedy = Some(remedy);
        self
    }

    /// Everything behind the first line.
    pub fn detail(&self) -> String {
        let said = self.said.as_deref().map(|said| format!("Proxmox VE said: {said}"));
        let labelled = |label: &str, text: &str| (!text.is_empty()).then(|| format!("{label}: {text}"));
        let place = (!self.place.is_empty()).then(|| self.place.clone());
        let parts = [place, said, labelled("State", &self.state), labelled("Next", &self.next)];
        parts.into_iter().flatten().collect::<Vec<_>>().join("\n")
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.what, self.detail())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_stand_in_the_order_a_person_reads_them() {
        let failure = Failure::new("Unable to create virtual machine web-1")
            .at("cluster a, node n1, vmid 100")
            .said("500 no space")
            .state("nothing was made")
            .next("free some space");
        assert_eq!(
            failure.to_string(),
            "Unable to create virtual machine web-1\ncluster a, node n1, vmid 100\nProxmox VE said: 500 no space\n\
             State: nothing was made\nNext: free some space"
        );
        assert_eq!(failure.kind, FailureKind::Plain);
        assert_eq!(Failure::stale("x", "y").kind, FailureKind::Stale);
    }
}
