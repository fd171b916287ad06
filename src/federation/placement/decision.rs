//! What placement answers: a decision or a refusal, both with the whole explanation.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::reason::Reason;
use crate::names::ClusterName;

/// Where a VM goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The cluster.
    pub cluster: ClusterName,
    /// The decision in words made only of what is pinned or configured, so that it comes out the same, letter by letter,
    /// whatever the load is ("place 2 of web-* in production-pool (balanced 80:20): databarn-dr").
    pub why: String,
    /// Whether the answer depends on other VMs of the same plan; then another order of asking could give another one.
    pub leaned_on_siblings: bool,
    /// The candidates with their factors. Holds numbers; never part of a planned value.
    pub explanation: Explanation,
}

/// Why a VM goes nowhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// The candidates with every reason each was refused.
    pub explanation: Explanation,
    /// The least that would have to change for one cluster to take it, as an instruction.
    pub smallest_relaxation: String,
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nSmallest change that would help: {}", self.explanation, self.smallest_relaxation)
    }
}

/// One line per candidate cluster, best first, the refused ones last.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Explanation {
    /// What was asked ("web-2 in production-pool, balanced").
    pub question: String,
    /// The candidates.
    pub candidates: Vec<Candidate>,
    /// What was assumed, ignored or fell back ("no prices for databarn-dr: cost ranks by weight").
    pub notes: Vec<String>,
}

/// One candidate cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The cluster.
    pub cluster: ClusterName,
    /// Its place in the preference list, 1 is best; none for clusters the rules exclude for good.
    pub preference: Option<u32>,
    /// The score the place comes from, where the strategy has one (0 to about 1.25 per `should`).
    pub score: Option<f64>,
    /// What the score or place is made of.
    pub factors: Vec<Factor>,
    /// Every reason it was refused; empty if it was not.
    pub refused: Vec<Reason>,
}

/// One part of a score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Factor {
    /// What it measures ("headroom", "price", "weight").
    pub name: String,
    /// Its share of the score.
    pub share: f64,
    /// Its value, 0 (worst) to 1 (best).
    pub value: f64,
    /// The figures behind it, in words.
    pub detail: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.question)?;
        for candidate in &self.candidates {
            write!(f, "\n  {candidate}")?;
        }
        for note in &self.notes {
            write!(f, "\n  note: {note}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.cluster)?;
        match self.preference {
            Some(place) if self.refused.is_empty() => write!(f, "choice {place}")?,
            _ => f.write_str("refused")?,
        }
        if let Some(score) = self.score {
            write!(f, ", score {score:.3}")?;
        }
        for factor in &self.factors {
            write!(f, ", {}", factor.name)?;
            if factor.share > 0.0 {
                write!(f, " {:.2} × {:.2}", factor.share, factor.value)?;
            }
            if !factor.detail.is_empty() {
                write!(f, " ({})", factor.detail)?;
            }
        }
        for (index, reason) in self.refused.iter().enumerate() {
            write!(f, "{}{reason}", if index == 0 { ": " } else { "; " })?;
        }
        Ok(())
    }
}
