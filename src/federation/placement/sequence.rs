//! Order without knowing one's siblings: sequences for numbered names, weighted hashing for the others.
//!
//! All arithmetic is on integers, so that two machines can never disagree in the last bit.

use sha2::{Digest, Sha256};

use crate::names::ClusterName;

/// A cluster with its weight. In every slice of this module names are unique and sorted, which makes ties go by name.
pub(super) type Weighted = (ClusterName, u64);

/// Longest period a sequence may have; larger weights are scaled down to it. Weights of 0–100 stay exact for any
/// federation that fits on a page.
const LONGEST_PERIOD: u64 = 2_000;

/// A stable 64-bit hash of texts; each is preceded by its length, so that ("ab", "c") is not ("a", "bc").
pub(super) fn hash(parts: &[&str]) -> u64 {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_be_bytes());
        sha.update(part.as_bytes());
    }
    sha.finalize().iter().take(8).fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

/// Every cluster in the order in which the member `ordinal` of a family prefers them.
///
/// The first is its place in the family's sequence over all clusters, the next its place in the sequence over the
/// others, and so on: so those whose first choice is full or dark spread over the rest in proportion too. Clusters of
/// weight 0 come last, by name.
pub(super) fn family_preference(weighted: &[Weighted], phase: u64, ordinal: u32) -> Vec<ClusterName> {
    let mut left: Vec<Weighted> = weighted.iter().filter(|(_, weight)| *weight > 0).cloned().collect();
    let mut preference = Vec::with_capacity(weighted.len());
    while !left.is_empty() {
        let (name, _) = left.remove(place(&left, phase, ordinal));
        preference.push(name);
    }
    preference.extend(weighted.iter().filter(|(_, weight)| *weight == 0).map(|(name, _)| name.clone()));
    preference
}

/// Index of the cluster at `ordinal` in the sequence over `weighted` (not empty, weights above 0), started at `phase`.
fn place(weighted: &[Weighted], phase: u64, ordinal: u32) -> usize {
    let weights = reduced(weighted);
    let period: u64 = weights.iter().sum();
    let at = (phase % period + u64::from(ordinal)) % period;
    smooth_sequence(&weights, at as usize + 1).last().copied().unwrap_or(0)
}

/// The weights divided by their greatest common divisor, and scaled down where the period would be too long.
fn reduced(weighted: &[Weighted]) -> Vec<u64> {
    let total: u128 = weighted.iter().map(|(_, weight)| u128::from(*weight)).sum();
    let divisor = weighted.iter().fold(0, |a, (_, b)| gcd(a, *b)).max(1);
    if total / u128::from(divisor) <= u128::from(LONGEST_PERIOD) {
        return weighted.iter().map(|(_, weight)| weight / divisor).collect();
    }
    let scaled = |weight: u64| (u128::from(weight) * u128::from(LONGEST_PERIOD) / total).max(1) as u64;
    weighted.iter().map(|(_, weight)| scaled(*weight)).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The first `length` terms of a smooth weighted round-robin.
///
/// Of the many orders with that name this is the one that keeps every prefix within one of the ideal split (so any window
/// within two): earliest deadline first among those that are due.
///
/// Source: R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32 (1980).
fn smooth_sequence(weights: &[u64], length: usize) -> Vec<usize> {
    let n = weights.len() as i128;
    if n < 2 {
        return vec![0; length];
    }
    let total: i128 = weights.iter().map(|weight| i128::from(*weight)).sum();
    let slack = 2 * n - 2;
    let mut taken = vec![0i128; weights.len()];
    let mut sequence = Vec::with_capacity(length);
    for step in 1..=length as i128 {
        let due = |i: &usize| (step * i128::from(weights[*i]) - taken[*i] * total) * slack >= total;
        // The deadline is ((slack − 1) + slack × taken) ÷ weight; fractions are compared crosswise.
        let sooner = |a: &usize, b: &usize| {
            let left = (slack - 1 + slack * taken[*a]) * i128::from(weights[*b]);
            let right = (slack - 1 + slack * taken[*b]) * i128::from(weights[*a]);
            left.cmp(&right)
        };
        let next = (0..weights.len()).filter(due).min_by(sooner).unwrap_or(0);
        taken[next] += 1;
        sequence.push(next);
    }
    sequence
}

/// Every cluster in the order in which `key` prefers them, by weighted rendezvous hashing: each cluster gets its share of
/// keys, and one that leaves or comes moves only the keys that are its own. Weight 0 comes last, by name.
pub(super) fn rendezvous_preference(weighted: &[Weighted], key: &str) -> Vec<ClusterName> {
    let mut costs: Vec<(u128, u128, &ClusterName)> = weighted
        .iter()
        .map(|(name, weight)| (u128::from(minus_log2(hash(&[key, name.as_str()]))), u128::from(*weight), name))
        .collect();
    // Cost ÷ weight, compared crosswise; weight 0 is an infinite cost, and two of those compare equal (then by name).
    costs.sort_by(|a, b| match (a.1, b.1) {
        (0, 0) => a.2.cmp(b.2),
        (0, _) => std::cmp::Ordering::Greater,
        (_, 0) => std::cmp::Ordering::Less,
        _ => (a.0 * b.1).cmp(&(b.0 * a.1)).then_with(|| a.2.cmp(b.2)),
    });
    costs.into_iter().map(|(_, _, name)| name.clone()).collect()
}

/// −log₂((value + 1) ÷ 2⁶⁴) with 32 binary digits after the point.
fn minus_log2(value: u64) -> u64 {
    let x = u128::from(value) + 1;
    let whole = 127 - x.leading_zeros();
    // The mantissa in [1, 2) with 63 digits after the point; squaring it yields one digit of the logarithm at a time.
    let mut mantissa = if whole <= 63 { x << (63 - whole) } else { x >> (whole - 63) };
    let mut fraction: u64 = 0;
    for _ in 0..32 {
        mantissa = (mantissa * mantissa) >> 63;
        fraction <<= 1;
        if mantissa >= 1 << 64 {
            mantissa >>= 1;
            fraction |= 1;
        }
    }
    (64u64 << 32) - ((u64::from(whole) << 32) + fraction)
}

#[cfg(test)]
mod tests {
    //! The sequences keep their promises for any weights.

    use proptest::prelude::*;

    use super::*;

    fn weighted(weights: &[u64]) -> Vec<Weighted> {
        let name = |i| ClusterName::new(format!("c{i:02}")).unwrap();
        weights.iter().enumerate().map(|(i, weight)| (name(i), *weight)).collect()
    }

    #[test]
    fn eighty_to_twenty_is_four_to_one_in_every_window_of_five() {
        let weights = reduced(&weighted(&[80, 20]));
        assert_eq!(weights, [4, 1]);
        let sequence = smooth_sequence(&weights, 15);
        for window in sequence.windows(5) {
            assert_eq!(window.iter().filter(|i| **i == 1).count(), 1, "{sequence:?}");
        }
    }

    #[test]
    fn logarithms_are_right_to_nine_digits() {
        for value in [0, 1, 12345, u64::from(u32::MAX), u64::MAX / 3, u64::MAX - 1] {
            let exact = 64.0 - ((value as f64) + 1.0).log2();
            let ours = minus_log2(value) as f64 / (1u64 << 32) as f64;
            assert!((exact - ours).abs() < 1e-8, "{value}: {exact} {ours}");
        }
        assert_eq!(minus_log2(u64::MAX), 0);
    }

    #[test]
    fn a_cluster_that_leaves_moves_only_its_own_keys() {
        let all = weighted(&[50, 30, 20]);
        for key in 0..200 {
            let before = rendezvous_preference(&all, &format!("vm{key}"));
            let after = rendezvous_preference(&all[..2], &format!("vm{key}"));
            if before[0] != all[2].0 {
                assert_eq!(before[0], after[0]);
            }
        }
    }

    #[test]
    fn hashing_gives_each_cluster_about_its_share() {
        let all = weighted(&[80, 20]);
        let first = (0..5000).filter(|key| rendezvous_preference(&all, &format!("vm{key}"))[0] == all[0].0).count();
        // Five standard deviations of a fair draw around 4000.
        assert!((3859..=4141).contains(&first), "{first}");
    }

    proptest! {
        #[test]
        fn any_window_is_within_two_of_the_ideal_split(
            weights in prop::collection::vec(1u64..=100, 1..7), phase: u64, n in 1u32..300,
        ) {
            let all = weighted(&weights);
            let total: u64 = weights.iter().sum();
            let mut counts = vec![0f64; weights.len()];
            for ordinal in 0..n {
                counts[place(&all, phase, ordinal)] += 1.0;
            }
            for (count, weight) in counts.iter().zip(&weights) {
                let ideal = f64::from(n) * *weight as f64 / total as f64;
                prop_assert!((count - ideal).abs() < 2.0, "{count} for {ideal}, weights {weights:?}");
            }
        }

        #[test]
        fn n_over_n_equal_clusters_take_one_each(n in 1u32..9, weight in 1u64..200, phase: u64, first in 0u32..1000) {
            let all = weighted(&vec![weight; n as usize]);
            let mut taken: Vec<usize> = (first..first + n).map(|ordinal| place(&all, phase, ordinal)).collect();
            taken.sort_unstable();
            prop_assert_eq!(taken, (0..n as usize).collect::<Vec<_>>());
        }

        #[test]
        fn preferences_name_every_cluster_once(weights in prop::collection::vec(0u64..=1_000_000, 1..7), phase: u64, ordinal: u32) {
            let all = weighted(&weights);
            for mut preference in [family_preference(&all, phase, ordinal), rendezvous_preference(&all, "key")] {
                preference.sort();
                prop_assert!(preference.iter().eq(all.iter().map(|(name, _)| name)));
            }
        }
    }
}
