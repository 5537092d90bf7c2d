//! Fuses what the two sides of a query answer: similar meaning (dense) and same words (BM25).
//!
//! Pure, and apart from any index, so that the embedded index and a server rank alike.

use std::collections::HashMap;
use std::hash::Hash;

/// How the scores of the two sides are made comparable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Normalisation {
    /// Distance from the mean in standard deviations, floored at -1, which is also what a result
    /// gets from a side that did not find it.
    ZScore,
    /// From 0 (the lowest found, or not found) to 1 (the highest).
    MinMax,
    /// Reciprocal rank with this constant: scores do not matter, only places.
    Reciprocal {
        /// Added to each rank; 60 in the paper.
        k: f32,
    },
}

/// How two lists become one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fusion {
    /// What is done to the scores first.
    pub normalisation: Normalisation,
    /// The weight of the dense side; that of BM25 is 1.
    pub dense_weight: f32,
}

/// What searches use, chosen by measuring (docs/decisions/0005-hybrid-search.md).
pub const DEFAULT: Fusion = Fusion { normalisation: Normalisation::ZScore, dense_weight: 0.5 };

/// The lowest z-score that counts, and the score of what a side did not find.
const FLOOR: f32 = -1.0;

/// Fewer results by words than this are measured as though the list went on to it with results of
/// score 0, which is what BM25 gives to everything else. So the one memory that holds a rare word
/// stands far above the mean, instead of being the mean itself.
const SHORT_LIST: usize = 10;

/// A result of one side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Its place, 1 being the first.
    pub rank: usize,
    /// Its score, on the side's own scale.
    pub score: f32,
}

/// A result of both.
#[derive(Debug, Clone, PartialEq)]
pub struct Fused<Id> {
    /// What was found.
    pub id: Id,
    /// The fused score; comparable only within one query.
    pub score: f32,
    /// Where the dense side found it, if it did.
    pub dense: Option<Place>,
    /// Where BM25 found it, if it did.
    pub bm25: Option<Place>,
}

/// Fuses two lists, each sorted by falling score, into one sorted by falling fused score. Ties go to
/// the smaller id, so that the order is always the same. An id listed twice counts where it is first.
#[must_use]
pub fn fuse<Id>(fusion: Fusion, dense: &[(Id, f32)], bm25: &[(Id, f32)]) -> Vec<Fused<Id>>
where
    Id: Copy + Eq + Hash + Ord,
{
    let mut fused: HashMap<Id, Fused<Id>> = HashMap::with_capacity(dense.len() + bm25.len());
    let dense_scores = normalised(fusion.normalisation, dense, 0);
    let bm25_scores = normalised(fusion.normalisation, bm25, SHORT_LIST);
    let missing = missing(fusion.normalisation);
    let nowhere = |id| Fused { id, score: missing * (1.0 + fusion.dense_weight), dense: None, bm25: None };
    for (rank, ((id, score), normal)) in dense.iter().zip(dense_scores).enumerate() {
        let found = fused.entry(*id).or_insert_with(|| nowhere(*id));
        if found.dense.is_none() {
            found.dense = Some(Place { rank: rank + 1, score: *score });
            found.score += fusion.dense_weight * (normal - missing);
        }
    }
    for (rank, ((id, score), normal)) in bm25.iter().zip(bm25_scores).enumerate() {
        let found = fused.entry(*id).or_insert_with(|| nowhere(*id));
        if found.bm25.is_none() {
            found.bm25 = Some(Place { rank: rank + 1, score: *score });
            found.score += normal - missing;
        }
    }
    let mut fused: Vec<_> = fused.into_values().collect();
    fused.sort_by(|one, other| other.score.total_cmp(&one.score).then_with(|| one.id.cmp(&other.id)));
    fused
}

fn missing(normalisation: Normalisation) -> f32 {
    match normalisation {
        Normalisation::ZScore => FLOOR,
        Normalisation::MinMax | Normalisation::Reciprocal { .. } => 0.0,
    }
}

fn normalised<Id>(normalisation: Normalisation, list: &[(Id, f32)], least: usize) -> Vec<f32> {
    match normalisation {
        Normalisation::ZScore => z_scores(list, least),
        Normalisation::MinMax => min_max(list),
        Normalisation::Reciprocal { k } => (0..list.len()).map(|rank| 1.0 / (k + rank as f32 + 1.0)).collect(),
    }
}

/// The z-scores of a list that goes on with zeros to a least length.
fn z_scores<Id>(list: &[(Id, f32)], least: usize) -> Vec<f32> {
    let count = list.len().max(least).max(1) as f32;
    let zeros = count - list.len() as f32;
    let mean = list.iter().map(|(_, score)| score).sum::<f32>() / count;
    let spread = list.iter().map(|(_, score)| (score - mean).powi(2)).sum::<f32>() + zeros * mean * mean;
    let deviation = (spread / count).sqrt();
    // All alike are found but say nothing about better and worse.
    list.iter()
        .map(|(_, score)| if deviation > f32::EPSILON { ((score - mean) / deviation).max(FLOOR) } else { 0.0 })
        .collect()
}

fn min_max<Id>(list: &[(Id, f32)]) -> Vec<f32> {
    let (Some((_, highest)), Some((_, lowest))) = (list.first(), list.last()) else { return Vec::new() };
    let span = highest - lowest;
    list.iter().map(|(_, score)| if span > f32::EPSILON { (score - lowest) / span } else { 1.0 }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(fused: &[Fused<u32>]) -> Vec<u32> {
        fused.iter().map(|found| found.id).collect()
    }

    #[test]
    fn found_by_both_comes_before_found_by_one() {
        let fused = fuse(DEFAULT, &[(1, 0.9), (2, 0.8), (3, 0.1)], &[(2, 9.0), (4, 8.0), (5, 1.0)]);
        assert_eq!(fused[0].id, 2);
        assert_eq!(fused[0].dense, Some(Place { rank: 2, score: 0.8 }));
        assert_eq!(fused[0].bm25, Some(Place { rank: 1, score: 9.0 }));
    }

    #[test]
    fn one_side_alone_keeps_its_order() {
        let list = [(7, 3.0), (5, 2.0), (6, 1.0)];
        assert_eq!(ids(&fuse(DEFAULT, &list, &[])), [7, 5, 6]);
        assert_eq!(ids(&fuse(DEFAULT, &[], &list)), [7, 5, 6]);
        assert!(fuse::<u32>(DEFAULT, &[], &[]).is_empty());
    }

    #[test]
    fn the_only_memory_with_a_rare_word_comes_first() {
        let dense: Vec<_> =
            (0..50).map(|number| (number, 0.9 - number as f32 * number as f32 / 9_000.0)).collect();
        assert_eq!(fuse(DEFAULT, &dense, &[(99, 4.0)])[0].id, 99);
    }

    #[test]
    fn reciprocal_ranks_are_those_of_the_paper() {
        let fusion = Fusion { normalisation: Normalisation::Reciprocal { k: 60.0 }, dense_weight: 1.0 };
        let fused = fuse(fusion, &[(1, 0.9)], &[(2, 3.0), (1, 2.0)]);
        assert!((fused[0].score - (1.0 / 61.0 + 1.0 / 62.0)).abs() < 1e-6);
    }

    fn list() -> impl Strategy<Value = Vec<(u32, f32)>> {
        prop::collection::btree_map(0u32..60, -1.0f32..1.0, 0..50).prop_map(|scores| {
            let mut list: Vec<_> = scores.into_iter().collect();
            list.sort_by(|one, other| other.1.total_cmp(&one.1));
            list
        })
    }

    proptest! {
        #[test]
        fn everything_found_is_kept_once_and_sorted(dense in list(), bm25 in list()) {
            for normalisation in [Normalisation::ZScore, Normalisation::MinMax, Normalisation::Reciprocal { k: 60.0 }] {
                let fused = fuse(Fusion { normalisation, dense_weight: 0.5 }, &dense, &bm25);
                let mut expected: Vec<u32> = dense.iter().chain(&bm25).map(|(id, _)| *id).collect();
                expected.sort_unstable();
                expected.dedup();
                let mut found = ids(&fused);
                found.sort_unstable();
                prop_assert_eq!(found, expected);
                prop_assert!(fused.is_sorted_by(|one, other| one.score >= other.score));
                prop_assert!(fused.iter().all(|found| found.score.is_finite()));
            }
        }
    }
}
