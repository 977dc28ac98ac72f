//! How much each update of a round counts: a pure function of what is logged about them, so that a version can be made
//! again.
//!
//! Three steps, in this order. Nothing here depends on the updates' numbers beyond their norms.
//!
//! 1. In proportion to the weights (tokens × [`super::staleness_weight`]).
//! 2. *Cap*: with n parties in the round none has more than 2/n; what it has too much goes to the others. A party is a
//!    user, so that many machines under one name cannot outvote everybody else. With one or two parties the cap binds
//!    nobody.
//! 3. *Clip*: an update longer than the round's median norm counts as if it had that length. The share that it loses is
//!    given to nobody: the step gets shorter, not the others stronger.

/// What is known of an update when its round closes.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim<P> {
    /// Who sent it, for the cap.
    pub party: P,
    /// Its weight relative to the others; positive and finite.
    pub weight: f32,
    /// Its Euclidean norm; positive and finite.
    pub norm: f64,
}

/// The factor with which each update enters the sum, in the order of `claims`. Their sum is at most 1, and 1 if nothing
/// is clipped.
pub fn shares<P: Ord + Clone>(claims: &[Claim<P>]) -> Vec<f32> {
    let capped = cap(claims);
    let median = median(claims.iter().map(|claim| claim.norm));
    let clip = |norm: f64| if norm > median { median / norm } else { 1.0 };
    capped.iter().zip(claims).map(|(share, claim)| (share * clip(claim.norm)) as f32).collect()
}

/// Shares of the weights in all, none of a party above 2/n.
fn cap<P: Ord + Clone>(claims: &[Claim<P>]) -> Vec<f64> {
    let total: f64 = claims.iter().map(|claim| f64::from(claim.weight)).sum();
    let mut parties = std::collections::BTreeMap::<P, f64>::new();
    for claim in claims {
        *parties.entry(claim.party.clone()).or_default() += f64::from(claim.weight) / total;
    }
    let most = 2.0 / parties.len() as f64;
    // Who is above the cap gets the cap, the others divide the rest as they did before; that may lift the next above it.
    let mut scale = 1.0;
    loop {
        let (mut above, mut rest) = (0, 0.0);
        for share in parties.values() {
            if share * scale > most {
                above += 1;
            } else {
                rest += share;
            }
        }
        let left = 1.0 - f64::from(above) * most;
        let next = if rest > 0.0 { left / rest } else { scale };
        if next <= scale {
            break;
        }
        scale = next;
    }
    let factor = |party: &P| {
        let share = parties[party];
        (share * scale).min(most) / share
    };
    claims.iter().map(|claim| f64::from(claim.weight) / total * factor(&claim.party)).collect()
}

/// The middle value, the upper one of two: with only two updates nothing is clipped, since neither is the odd one.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(party: u8, weight: f32, norm: f64) -> Claim<u8> {
        Claim { party, weight, norm }
    }

    #[track_caller]
    fn near(shares: &[f32], expected: &[f32]) {
        let close = shares.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close && shares.len() == expected.len(), "{shares:?} instead of {expected:?}");
    }

    #[test]
    fn equal_updates_count_the_same() {
        near(&shares(&[claim(1, 5.0, 2.0), claim(2, 5.0, 2.0), claim(3, 5.0, 2.0)]), &[1.0 / 3.0; 3]);
        near(&shares(&[claim(1, 7.0, 0.1)]), &[1.0]);
    }

    #[test]
    fn a_fresh_update_counts_more_than_a_stale_one() {
        near(&shares(&[claim(1, 1.0, 1.0), claim(2, 0.5, 1.0)]), &[2.0 / 3.0, 1.0 / 3.0]);
    }

    #[test]
    fn one_user_cannot_outvote_the_others() {
        let mut claims: Vec<_> = (0..6).map(|_| claim(0, 1.0, 1.0)).collect();
        claims.extend((1..5).map(|party| claim(party, 1.0, 1.0)));
        // Five users: at most two fifths for one, the rest for the others alike.
        let expected = [[0.4 / 6.0; 6].as_slice(), &[0.15; 4]].concat();
        near(&shares(&claims), &expected);
    }

    #[test]
    fn what_a_cap_frees_may_lift_another_to_it() {
        let weights = [(0, 10.0), (1, 4.0), (2, 0.5), (3, 0.5)];
        let claims: Vec<_> = weights.iter().map(|(party, weight)| claim(*party, *weight, 1.0)).collect();
        near(&shares(&claims), &[0.5, 0.4, 0.05, 0.05]);
        let weights = [(0, 10.0), (1, 9.0), (2, 0.2), (3, 0.2), (4, 0.6)];
        let claims: Vec<_> = weights.iter().map(|(party, weight)| claim(*party, *weight, 1.0)).collect();
        near(&shares(&claims), &[0.4, 0.4, 0.04, 0.04, 0.12]);
    }

    #[test]
    fn a_loud_update_is_clipped_to_the_median() {
        near(
            &shares(&[claim(1, 1.0, 1.0), claim(2, 1.0, 1.0), claim(3, 1.0, 10.0)]),
            &[1.0 / 3.0, 1.0 / 3.0, 1.0 / 30.0],
        );
    }

    proptest! {
        #[test]
        fn bounds_hold(claims in proptest::collection::vec((0u8..6, 1e-3f32..1e6, 1e-6f64..1e6), 1..40)) {
            let claims: Vec<_> = claims.into_iter().map(|(party, weight, norm)| claim(party, weight, norm)).collect();
            let shares = shares(&claims);
            let parties: std::collections::BTreeSet<_> = claims.iter().map(|claim| claim.party).collect();
            let most = 2.0 / parties.len() as f32;
            for party in &parties {
                let own = |(share, claim): (&f32, &Claim<u8>)| if claim.party == *party { *share } else { 0.0 };
                let sum: f32 = shares.iter().zip(&claims).map(own).sum();
                prop_assert!(sum <= most * 1.0001);
            }
            prop_assert!(shares.iter().all(|share| *share >= 0.0 && share.is_finite()));
            prop_assert!(shares.iter().sum::<f32>() <= 1.0001);
            let capped: f64 = cap(&claims).iter().sum();
            prop_assert!((capped - 1.0).abs() < 1e-9, "{capped}");
            // No update pulls further than the median at its share of the weights and the cap.
            let median = median(claims.iter().map(|claim| claim.norm));
            for (share, claim) in shares.iter().zip(&claims) {
                prop_assert!(f64::from(*share) * claim.norm <= median * 1.0001);
            }
        }
    }
}
