//! Owns where one walk of core ends and the next begins, in a process that serves several.
//!
//! A process lives for one walk, with one exception: `terraform test` (from 1.13 on) with the provider block in the test file
//! configures one process and serves every run of the file with it. What is known once per process (the facts, what was
//! placed and planned, what was said) is a walk's, and must not reach the next run.
use protocol::{ClientCapabilities, ConfigureRequest};

/// The walk that a process is in.
#[derive(Debug, Default)]
pub(crate) struct Walks {
    /// What the provider was configured with: the next walk begins from the same.
    pub(crate) configured: Option<Configured>,
    /// Core says in its calls which of them belong to an apply walk. Where it doesn't, a plan after an apply is that apply's own.
    tells: bool,
    /// Something was applied in this walk.
    applied: bool,
}

/// A request to configure, kept. Debug shows nothing of it, for it holds credentials.
pub(crate) struct Configured(pub(crate) ConfigureRequest);

impl std::fmt::Debug for Configured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Configured")
    }
}

impl Walks {
    /// Takes note of a plan or read, and says whether a new walk begins with it: the first one after an apply that is not of
    /// an apply walk. Only cores that send the deferral flag in apply walks are known to tell the two apart.
    pub(crate) fn begins(&mut self, client: ClientCapabilities) -> bool {
        self.tells |= client.deferral_allowed || client.store_planned_private;
        self.applied && self.tells && !client.deferral_allowed
    }

    /// The new walk has begun.
    pub(crate) fn begun(&mut self) {
        self.applied = false;
    }

    /// Takes note of an apply.
    pub(crate) fn applied(&mut self) {
        self.applied = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(deferral_allowed: bool, store_planned_private: bool) -> ClientCapabilities {
        ClientCapabilities { deferral_allowed, store_planned_private, ..ClientCapabilities::default() }
    }

    #[test]
    fn a_walk_begins_at_the_first_plan_after_an_apply_that_is_no_applys_own() {
        for private in [false, true] {
            let mut walks = Walks::default();
            assert!(!walks.begins(client(false, private)), "nothing was applied");
            assert!(!walks.begins(client(true, private)));
            walks.applied();
            assert!(!walks.begins(client(true, private)), "another machine of the same apply");
            assert!(walks.begins(client(false, private)), "{private}");
            walks.begun();
            assert!(!walks.begins(client(false, private)), "once");
        }
    }

    #[test]
    fn a_core_that_does_not_tell_has_a_process_for_each_walk() {
        let mut walks = Walks::default();
        walks.begins(client(false, false));
        walks.applied();
        assert!(!walks.begins(client(false, false)), "the plan of the next machine of the same apply");
    }
}
