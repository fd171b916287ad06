//! What somebody else does between a plan and its apply, and the dice that choose it.
use crate::support::CLUSTERS;

/// A small generator (SplitMix64), so that one number says all of a run.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap_or(0)
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())].clone()
    }
}

/// What somebody else does between plan and apply.
#[derive(Debug, Clone, PartialEq)]
pub enum Foreign {
    Nothing,
    FillMemory(&'static str),
    AddToPool(&'static str),
    StorageGone(&'static str),
    Dark(&'static str),
    NoQuorum(&'static str),
    NodesDown(&'static str),
    MoveAway(String),
    Resize(String),
    Retag(String),
    AnotherPlan(Box<Foreign>),
    FolderGone,
    FolderOfAnEarlierPlan,
}

impl Foreign {
    pub fn any(dice: &mut Dice, existing: &[String]) -> Foreign {
        let cluster = dice.pick(&CLUSTERS);
        match dice.roll(if existing.is_empty() { 12 } else { 18 }) {
            0 | 1 => Foreign::Nothing,
            2 | 3 => Foreign::FillMemory(cluster),
            4 => Foreign::AddToPool(cluster),
            5 => Foreign::StorageGone(cluster),
            6 => Foreign::Dark(cluster),
            7 => Foreign::NoQuorum(cluster),
            8 => Foreign::NodesDown(cluster),
            9 => Foreign::AnotherPlan(Box::new(Foreign::FillMemory(cluster))),
            10 => Foreign::FolderGone,
            11 => Foreign::FolderOfAnEarlierPlan,
            12 | 13 => Foreign::MoveAway(dice.pick(existing)),
            14 | 15 => Foreign::Resize(dice.pick(existing)),
            _ => Foreign::Retag(dice.pick(existing)),
        }
    }

    pub fn is_folder(&self) -> bool {
        matches!(self, Foreign::FolderGone | Foreign::FolderOfAnEarlierPlan)
    }

    /// What a refusal because of it must name, one of them.
    pub fn names(&self) -> Vec<String> {
        match self {
            Foreign::FillMemory(cluster)
            | Foreign::AddToPool(cluster)
            | Foreign::StorageGone(cluster)
            | Foreign::Dark(cluster)
            | Foreign::NoQuorum(cluster)
            | Foreign::NodesDown(cluster) => vec![(*cluster).to_owned()],
            Foreign::AnotherPlan(inner) => inner.names(),
            Foreign::MoveAway(name) | Foreign::Resize(name) | Foreign::Retag(name) => vec![name.clone()],
            Foreign::Nothing | Foreign::FolderGone | Foreign::FolderOfAnEarlierPlan => Vec::new(),
        }
    }
}
