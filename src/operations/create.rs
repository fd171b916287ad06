//! Owns creating a virtual machine as an operation: killed at any call, the next apply leaves exactly one (design.md §5).
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use federation::placement::Request;
use federation::{ClusterName, Span};
use proxmox::{Error, Params, Upid};

use crate::births::Birth;
use crate::claims::guest_of;
use crate::clone::{Template, clone_params};
use crate::failure::{Failure, FailureKind};
use crate::fleet::Fleet;
use crate::guest::Guest;
use crate::journal::{Journal, Kind, Place, create_pool, new_journal};
use crate::made::other_request;
use crate::notes::{self, Mark};
use crate::operation::Taken;
use crate::parameters::join_tags;
use crate::resolve::pick_node;
use crate::site::Site;
use crate::spec::{Resolved, VmSpec};

/// A machine that was made or changed, and what went less than well after its disks held data.
#[derive(Debug)]
pub struct Outcome {
    /// The machine.
    pub guest: Guest,
    /// What failed without harm: the next plan shows the difference.
    pub warnings: Vec<Failure>,
}

/// What a machine is made of: a template, or nothing, and what federation names are there.
struct Origin<'a> {
    template: Option<&'a Template>,
    on: &'a Resolved,
}

/// How often another VMID is tried when somebody else was faster.
const VMID_TRIES: u32 = 20;

impl Fleet {
    /// Creates a machine on the cluster that the plan showed, or finishes a create of the same request that was interrupted.
    ///
    /// # Errors
    /// A stale plan, a name that is taken, a living holder, or what Proxmox VE said; in each case no machine of ours is left
    /// that the next apply would not take up.
    pub async fn create(
        &self,
        spec: &VmSpec,
        cluster: &ClusterName,
        request: &Request,
        timeout: Option<Span>,
    ) -> Result<Outcome, Failure> {
        let what = format!("Unable to create virtual machine {}", spec.name);
        let site = self.need(cluster.as_str(), &what)?;
        let deadline = Instant::now() + Duration::from(timeout.unwrap_or(self.settings().create));
        let key = create_pool(spec.pool.as_ref().map_or("", |pool| pool.as_str()), spec.name.as_str());
        let overview = site.glance().await.map_err(|error| dark(&what, cluster, error))?;
        let unfinished = overview.operation(&key).is_some();
        if !unfinished {
            self.none_elsewhere(site, &key, &what, deadline).await?;
            if let Some(place) = self.made_already(site, spec, &what).await? {
                let journal = new_journal(Kind::Create, spec, None, place, String::new());
                return self.finish_create(site, &journal, spec, &what, deadline).await;
            }
            self.still_fits(request, cluster, &what).await?;
            self.may_create(site, spec, &what).await?;
        }
        if let Some(pool) = &spec.pool {
            self.ensure_pool(site, pool.as_str(), &what).await?;
        }
        let facts = site.take_facts(self.settings().fact_age.into()).await;
        let on = self.resolve_copy(spec, cluster, &facts, &what)?;
        let node = pick_node(&facts, spec, &on, &what)?;
        let template = self.template(site, spec, &node, &facts, &what).await?;
        let node = template.as_ref().map_or(node.clone(), |template| template.node_for(&node));
        if let Some(template) = &template {
            self.may_clone(site, template.vmid, &what).await?;
        }
        let origin = Origin { template: template.as_ref(), on: &on };
        let vmid = self.pick_vmid(site, spec, &what).await?;
        let to = Place { cluster: cluster.clone(), node, vmid };
        let mut journal = new_journal(Kind::Create, spec, None, to, uuid::Uuid::new_v4().to_string());
        // Older versions read it, and don't know a tier.
        journal.wants = Some(Box::new(Request { tier: None, ..request.clone() }));
        self.remember(spec, &journal);
        let mut made = None;
        if let Taken::Over(found) = self.take(site, &key, &journal, &what).await? {
            made = self.made_before(site, &found, origin.template, &what, deadline).await?;
            if made.is_some() && found.wants != journal.wants {
                return Err(other_request(&what, &found));
            }
            if made.is_some() {
                journal = *found;
                self.remember(spec, &journal);
            } else {
                journal.epoch = found.epoch;
                self.note(site, &key, &mut journal, &what).await?;
            }
        }
        if made.is_none() {
            self.take_turn(site, &key, &mut journal, spec, &what, deadline).await?;
            self.make(site, &key, &mut journal, spec, &origin, &what, deadline).await?;
        }
        if template.is_some() {
            self.shaped(site, &key, &journal, spec, &on, &what, deadline).await?;
        }
        let outcome = self.finish_create(site, &journal, spec, &what, deadline).await?;
        site.newborn.lock().await.insert(journal.to.vmid, guest_of(request));
        self.give_back(site, &key, journal.epoch).await.map_err(|error| {
            Failure::new(&what)
                .at(format!("cluster {cluster}, pool {key}"))
                .said(error)
                .state(format!("the machine exists ({}), its create is not closed", outcome.guest.place))
                .next("apply again: the same machine is taken up")
        })?;
        Ok(outcome)
    }

    /// Notes in the working folder which machine is about to be ours. Without the note a create that is killed after its last
    /// call is refused, with the import id.
    pub(crate) fn remember(&self, spec: &VmSpec, journal: &Journal) {
        let pool = spec.pool.as_ref().map_or("", |pool| pool.as_str());
        let birth = Birth { uuid: journal.uuid.clone(), place: journal.to.clone() };
        if let Err(error) = self.births().note(pool, spec.name.as_str(), &birth) {
            tracing::warn!(machine = %spec.name, %error, "the working folder takes no note of what is made");
        }
    }

    /// The calls that make the machine. The journal names VMID and UUID before each try.
    #[expect(clippy::too_many_arguments, reason = "one create, seen whole")]
    async fn make(
        &self,
        site: &Site,
        key: &str,
        journal: &mut Journal,
        spec: &VmSpec,
        origin: &Origin<'_>,
        what: &str,
        deadline: Instant,
    ) -> Result<(), Failure> {
        for _ in 0..VMID_TRIES {
            let managed = spec.pool.is_none().then(|| journal.uuid.clone());
            let mark = Mark { op: Some(journal.op.clone()), managed, ..Mark::default() };
            let notes = notes::join(spec.description.as_deref().unwrap_or_default(), &mark)
                .map_err(|error| Failure::new(what).at(error.to_string()).next("shorten `description`"))?;
            let error = match self.ask_for(site, journal, spec, origin, &notes).await {
                Ok(upid) => {
                    let waited = self.wait(site, &upid, deadline, what).await;
                    return match waited {
                        Err(failure) => Err(self.not_made(site, key, journal, origin, failure, deadline).await),
                        Ok(()) => Ok(()),
                    };
                }
                Err(error) => error,
            };
            site.changed().await;
            if (error.is_already_exists() || error.is_ambiguous())
                && self.made_before(site, journal, origin.template, what, deadline).await?.is_some()
            {
                return Ok(());
            }
            if !error.is_already_exists() || spec.vmid.is_some() {
                let undone = self.give_back(site, key, journal.epoch).await;
                let state =
                    if undone.is_ok() { "nothing was made" } else { "nothing was made; the create is not closed" };
                return Err(Failure::new(what)
                    .at(journal.to.to_string())
                    .said(error)
                    .state(state)
                    .next("mend that, and apply again"));
            }
            // Somebody else took the VMID between the look and the call.
            journal.to.vmid = match self.pick_vmid(site, spec, what).await {
                Ok(vmid) => vmid,
                Err(failure) => {
                    // What can't be given back is taken up by the next apply.
                    let _ = self.give_back(site, key, journal.epoch).await;
                    return Err(failure);
                }
            };
            self.remember(spec, journal);
            self.note(site, key, journal, what).await?;
            self.take_turn(site, key, journal, spec, what, deadline).await?;
        }
        Err(Failure::new(what)
            .at(format!("cluster {}: {VMID_TRIES} VMIDs in turn were taken by others", site.name))
            .next("apply again"))
    }

    /// What to say of a create whose task failed. Proxmox VE takes a failed create back; where it did, nothing is left to be
    /// finished, and the operation is given back so that a `destroy` leaves nothing.
    async fn not_made(
        &self,
        site: &Site,
        key: &str,
        journal: &Journal,
        origin: &Origin<'_>,
        failure: Failure,
        deadline: Instant,
    ) -> Failure {
        let at = failure.at(journal.to.to_string());
        if at.kind == FailureKind::Interrupted {
            return at;
        }
        let left = self.made_before(site, journal, origin.template, "", deadline).await;
        let state = match left {
            Ok(None) if self.give_back(site, key, journal.epoch).await.is_ok() => {
                "Proxmox VE took it back: nothing was made"
            }
            Ok(None) => "nothing was made; the create is not closed",
            _ => "what there is of it is taken up by the next apply",
        };
        at.state(state).next("mend that, and apply again")
    }

    /// Begins a create, or a copy of the template.
    async fn ask_for(
        &self,
        site: &Site,
        journal: &Journal,
        spec: &VmSpec,
        origin: &Origin<'_>,
        notes: &str,
    ) -> Result<Upid, Error> {
        let to = &journal.to;
        match origin.template {
            Some(template) => {
                let params = clone_params(spec, template, to, notes, origin.on);
                site.client.clone_vm(&template.node, template.vmid, params).await
            }
            None => {
                let params = spec.create_params(to.vmid, &journal.uuid, notes, origin.on);
                site.client.create_vm(&to.node, params).await
            }
        }
    }

    /// Shapes a copy. What can't be made of it is taken back, unless nobody knows whether it was made.
    #[expect(clippy::too_many_arguments, reason = "one create, seen whole")]
    async fn shaped(
        &self,
        site: &Site,
        key: &str,
        journal: &Journal,
        spec: &VmSpec,
        on: &Resolved,
        what: &str,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let Err(failure) = self.shape(site, journal, spec, on, what, deadline).await else { return Ok(()) };
        if failure.kind == FailureKind::Plain && self.unmake(site, key, journal, what, deadline).await {
            return Err(failure.state("the copy of the template was taken back").next("mend that, and apply again"));
        }
        Err(failure.state("the copy of the template is there, and not finished").next("apply again: it is taken up"))
    }

    /// Takes the mark off, writes what a create can't be given, and starts the machine. The disks hold data now, so what fails here is
    /// a warning.
    async fn finish_create(
        &self,
        site: &Site,
        journal: &Journal,
        spec: &VmSpec,
        what: &str,
        deadline: Instant,
    ) -> Result<Outcome, Failure> {
        let to = &journal.to;
        let mut warnings = Vec::new();
        let lost = |error: Error| {
            Failure::new(what)
                .at(to.to_string())
                .said(error)
                .state("the machine was made; this run can't see it any more")
                .next("apply again: the same machine is taken up")
        };
        let mut guest = site.guest_now(&to.node, to.vmid).await.map_err(lost)?;
        if let Err(failure) = self.write_last(site, &mut guest, spec, what).await {
            warnings.push(failure);
        }
        if spec.started
            && !guest.running
            && let Err(failure) = self.start(site, to, deadline).await
        {
            warnings.push(failure.next("see why, and apply again: the plan shows that it doesn't run"));
        }
        let guest = site.guest_now(&to.node, to.vmid).await.map_err(lost)?;
        Ok(Outcome { guest, warnings })
    }

    /// Writes, in one call, what a new machine still lacks: its tags, now that it is in its pool, and notes without the operation's mark.
    /// A machine without the mark has both.
    async fn write_last(&self, site: &Site, guest: &mut Guest, spec: &VmSpec, what: &str) -> Result<(), Failure> {
        if guest.mark.op.take().is_none() {
            return Ok(());
        }
        let fail = || Failure::new(what).at(format!("{}: its notes and tags can't be written", guest.place));
        let text = notes::join(spec.description.as_deref().unwrap_or(&guest.description), &guest.mark)
            .map_err(|error| fail().said(error).next("shorten its notes"))?;
        let is: BTreeSet<String> = guest.config.tags().into_iter().collect();
        let tags = spec.tags.as_ref().filter(|tags| **tags != is).map(join_tags);
        let params = Params::new().set("description", text).opt("tags", tags.filter(|tags| !tags.is_empty()));
        let set = site.client.set_config(&guest.place.node, guest.place.vmid, params, None).await;
        set.map_err(|error| fail().said(error).next("apply again"))
    }

    /// Writes a guest's notes: `description`, or its own text where that is left alone, and its mark.
    pub(crate) async fn write_notes(
        &self,
        site: &Site,
        guest: &Guest,
        description: Option<&str>,
        what: &str,
    ) -> Result<(), Failure> {
        let fail = || Failure::new(what).at(format!("{}: its notes can't be written", guest.place)).next("apply again");
        let text = notes::join(description.unwrap_or(&guest.description), &guest.mark)
            .map_err(|error| fail().said(error).next("shorten its notes"))?;
        let params = Params::new().set("description", text);
        let set = site.client.set_config(&guest.place.node, guest.place.vmid, params, None).await;
        set.map_err(|error| fail().said(error))
    }

    /// Starts a machine and waits until it runs.
    pub(crate) async fn start(&self, site: &Site, at: &Place, deadline: Instant) -> Result<(), Failure> {
        let what = "Unable to start the virtual machine";
        let upid = site.client.start_vm(&at.node, at.vmid, None).await;
        let upid = upid.map_err(|error| Failure::new(what).at(at.to_string()).said(error).state("it is stopped"))?;
        site.changed().await;
        let waited = self.wait(site, &upid, deadline, what).await;
        match site.client.vm_status(&at.node, at.vmid).await {
            Ok(status) if status.status == "running" => Ok(()),
            _ => Err(waited.err().unwrap_or_else(|| Failure::new(what)).at(at.to_string()).state("it is stopped")),
        }
    }

    /// Waits for a task, but not past the deadline, nor past the user's wish to stop: the task goes on, and the operation
    /// stays at its step.
    pub(crate) async fn wait(&self, site: &Site, upid: &Upid, deadline: Instant, what: &str) -> Result<(), Failure> {
        let progress = |progress: &proxmox::TaskProgress| {
            if let Some(percent) = progress.percent {
                tracing::info!(cluster = %site.name, task = %upid.kind, vmid = %upid.id, percent, "under way");
            }
        };
        let waited = tokio::select! {
            waited = site.client.wait_task(upid, deadline, progress) => waited,
            () = self.stopped() => {
                let mut failure = Failure::new(what)
                    .at(format!("cluster {}: interrupted while task {upid} runs", site.name))
                    .state("the task goes on; the operation is left at this step")
                    .next("apply again to go on");
                failure.kind = FailureKind::Interrupted;
                return Err(failure);
            }
        };
        site.changed().await;
        waited.map(drop).map_err(|error| {
            let mut failure = Failure::new(what).at(format!("cluster {}", site.name));
            if error.is_held() {
                failure.kind = FailureKind::Held;
            }
            if !matches!(error, Error::TaskTimeout { .. }) {
                return failure.said(error);
            }
            let said = format!("{error}. The longest time that `timeouts` allows is over");
            failure.said(said).next("apply again: it goes on from what is there")
        })
    }
}

pub(crate) fn dark(what: &str, cluster: &ClusterName, error: Error) -> Failure {
    Failure::new(what)
        .at(format!("cluster {cluster} can't be asked"))
        .said(&error)
        .state("nothing was touched")
        .next(format!("{}, and apply again", answering(&error)))
}

/// What has a cluster answer that gave this error.
pub(crate) fn answering(error: &Error) -> &'static str {
    if error.is_auth() {
        "give its connection a token that it takes: this one is refused (expired, revoked, or mistyped)"
    } else if error.is_permission_denied() {
        "give the token that right"
    } else {
        "bring the cluster back"
    }
}
