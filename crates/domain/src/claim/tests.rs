//! Claims, rule by rule.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::scenario::{Actor, automation, cloud_ai, local_ai, user};

fn author(actor: &Actor, at: u64) -> Authorship {
    let hlc = Hlc { millis: at, counter: 0 };
    let command = Uuid::from_u128(at.into());
    Authorship {
        principal: actor.principal,
        truth: actor.truth,
        origin: actor.origin.clone(),
        hlc,
        command,
        standing: Standing::Full,
    }
}

fn id(number: u64) -> EventId {
    EventId::new(Uuid::from_u128(number.into()))
}

/// The claim `number`, made at the time `number`.
fn claim(number: u64, actor: &Actor, value: &str, supersedes: &[u64]) -> Claim {
    Claim {
        id: id(number),
        value: value.into(),
        author: author(actor, number),
        supersedes: supersedes.iter().copied().map(id).collect(),
        accepts: None,
    }
}

fn field(claims: &[Claim]) -> FieldClaims {
    let mut field = FieldClaims::default();
    for claim in claims {
        field.add(claim.clone());
    }
    field
}

fn heads(field: &FieldClaims) -> Vec<EventId> {
    field.heads().iter().map(|head| head.id).collect()
}

fn value(field: &FieldClaims) -> Option<&str> {
    field.effective()?.value.as_text()
}

#[test]
fn t2_a_claim_never_supersedes_one_of_higher_truth() {
    // Given the user's claim, when an AI's claim says it replaces it
    let field = field(&[claim(1, &user(), "mine", &[]), claim(2, &cloud_ai(), "its", &[1])]);
    // Then both are heads and the user's is the value.
    assert_eq!(heads(&field), [id(1), id(2)]);
    assert_eq!(value(&field), Some("mine"));
}

#[test]
fn t2_a_replaced_claim_is_no_head() {
    let field = field(&[claim(1, &local_ai(), "a", &[]), claim(2, &user(), "b", &[1])]);
    assert_eq!(heads(&field), [id(2)]);
    assert!(field.suggestions().is_empty());
}

#[test]
fn t3_higher_truth_wins_then_the_later_clock_then_the_larger_id() {
    let mut early = claim(9, &user(), "early, large id", &[]);
    early.author.hlc = Hlc { millis: 1, counter: 0 };
    let mut late = claim(2, &user(), "late", &[]);
    late.author.hlc = Hlc { millis: 2, counter: 0 };
    let ai = claim(100, &local_ai(), "latest of all", &[]);
    assert_eq!(value(&field(&[early.clone(), late.clone(), ai.clone()])), Some("late"));
    let mut twin = claim(3, &user(), "same clock, larger id", &[]);
    twin.author.hlc = late.author.hlc;
    assert_eq!(value(&field(&[twin, late, early, ai])), Some("same clock, larger id"));
}

#[test]
fn t4_rivals_of_one_truth_conflict_until_a_later_claim_replaces_them() {
    let mut field =
        field(&[claim(1, &user(), "a", &[]), claim(2, &user(), "b", &[]), claim(3, &local_ai(), "c", &[])]);
    let rivals: Vec<_> = field.conflict().iter().map(|rival| rival.id).collect();
    assert_eq!(rivals, [id(2), id(1)], "the AI's is a suggestion, not a rival");
    field.add(claim(4, &user(), "settled", &[1, 2]));
    assert!(field.conflict().is_empty());
    assert_eq!(field.suggestions().len(), 1);
}

#[test]
fn t4_equal_values_do_not_conflict() {
    let field = field(&[claim(1, &user(), "a", &[]), claim(2, &user(), "a", &[])]);
    assert!(field.conflict().is_empty());
}

#[test]
fn t5_what_does_not_win_is_a_suggestion_unless_it_says_the_same() {
    let field = field(&[
        claim(1, &user(), "a", &[]),
        claim(2, &cloud_ai(), "a", &[]),
        claim(3, &cloud_ai(), "b", &[]),
        claim(4, &automation(), "c", &[]),
    ]);
    let waiting: Vec<_> = field.suggestions().iter().map(|claim| claim.id).collect();
    assert_eq!(waiting, [id(4), id(3)], "highest truth first");
}

#[test]
fn t6_a_rejection_counts_at_level_one_only() {
    let mut field = field(&[claim(1, &user(), "a", &[]), claim(2, &cloud_ai(), "b", &[])]);
    field.reject(id(900), id(2), &author(&automation(), 3));
    assert!(!field.is_rejected(id(2)));
    assert_eq!(field.suggestions().len(), 1);
    field.reject(id(900), id(2), &author(&user(), 4));
    assert!(field.suggestions().is_empty());
    assert!(field.was_rejected(cloud_ai().principal, &"b".into()));
    assert!(!field.was_rejected(cloud_ai().principal, &"c".into()), "another value is another matter");
    assert!(!field.was_rejected(local_ai().principal, &"b".into()), "and so is another principal");
}

#[test]
fn t6_rejecting_the_newer_of_two_suggestions_shows_the_older() {
    let mut field =
        field(&[claim(1, &user(), "a", &[]), claim(2, &cloud_ai(), "b", &[]), claim(3, &cloud_ai(), "c", &[2])]);
    assert_eq!(heads(&field), [id(1), id(3)]);
    field.reject(id(900), id(3), &author(&user(), 4));
    assert_eq!(heads(&field), [id(1), id(2)]);
}

#[test]
fn t7_retracting_lets_the_next_one_show_through() {
    let mut field = field(&[claim(1, &local_ai(), "a", &[]), claim(2, &user(), "b", &[1])]);
    field.retract(id(900), id(2), &author(&user(), 3));
    assert_eq!(value(&field), Some("a"));
}

#[test]
fn t7_clearing_is_a_value_that_wins_like_any_other() {
    let mut cleared = claim(2, &user(), "", &[1]);
    cleared.value = Value::Empty;
    let field = field(&[claim(1, &local_ai(), "a", &[]), cleared]);
    assert_eq!(field.effective().map(|claim| &claim.value), Some(&Value::Empty));
    assert!(field.suggestions().is_empty());
}

#[test]
fn t7_only_the_author_retracts_and_at_no_lower_truth() {
    let mut field = field(&[claim(1, &user(), "a", &[])]);
    field.retract(id(900), id(1), &author(&Actor::new(Truth::User, 2), 2));
    field.retract(id(900), id(1), &author(&user().at(Truth::CloudAi), 3));
    assert_eq!(value(&field), Some("a"));
    field.retract(id(900), id(1), &author(&user(), 4));
    assert_eq!(value(&field), None);
}

#[test]
fn t7_a_retracted_middle_does_not_bring_back_what_later_claims_replaced() {
    // Given a chain of three, when the middle one is taken back
    let mut field =
        field(&[claim(1, &user(), "a", &[]), claim(2, &user(), "b", &[1]), claim(3, &user(), "c", &[2])]);
    field.retract(id(900), id(2), &author(&user(), 4));
    // Then the last one stands, and alone.
    assert_eq!(heads(&field), [id(3)]);
    // And when that is taken back too, the first shows through.
    field.retract(id(900), id(3), &author(&user(), 5));
    assert_eq!(heads(&field), [id(1)]);
}

#[test]
fn t3_what_arrives_before_what_it_is_about_counts_when_that_arrives() {
    let (first, second) = (claim(1, &user(), "a", &[]), claim(2, &user(), "b", &[1]));
    assert_eq!(heads(&field(&[second.clone(), first.clone()])), [id(2)]);
    let mut early = FieldClaims::default();
    early.retract(id(900), id(2), &author(&user(), 3));
    early.reject(id(900), id(3), &author(&user(), 4));
    for claim in [second, first, claim(3, &cloud_ai(), "c", &[])] {
        early.add(claim);
    }
    assert_eq!(heads(&early), [id(1)]);
}

#[test]
fn t3_the_same_claim_twice_is_one() {
    // Ids are not always ascending: those made from idempotency keys are not.
    let claims = [claim(5, &user(), "a", &[]), claim(3, &user(), "b", &[5])];
    let once = field(&claims);
    let mut twice = field(&claims);
    twice.add(claims[0].clone());
    assert_eq!(once, twice);
}

#[test]
fn an_undone_verdict_counts_no_more_and_a_redone_one_again() {
    let mut field = field(&[claim(1, &user(), "a", &[]), claim(2, &cloud_ai(), "b", &[])]);
    let by = author(&user(), 3);
    field.reject(id(900), id(2), &by);
    for (truth, waits) in [(Some(Truth::CloudAi), 0), (Some(Truth::User), 1), (None, 0)] {
        field.heed_undone(&truth.map(|truth| (by.command, truth)).into_iter().collect());
        assert_eq!(field.suggestions().len(), waits, "undone by {truth:?}");
    }
}

/// Something said about a field.
/// A claim that a peer may only suggest, or that is held.
fn standing(claim: Claim, standing: Standing) -> Claim {
    Claim { author: Authorship { standing, ..claim.author }, ..claim }
}

#[test]
fn t10_what_a_peer_may_only_suggest_waits_even_where_nobody_said_anything() {
    let anna = Actor::new(Truth::User, 2);
    let mut field = field(&[standing(claim(1, &anna, "hers", &[]), Standing::Suggestion)]);
    assert_eq!(value(&field), None);
    assert_eq!(field.suggestions().len(), 1);
    // Neither does it outrank an AI of one's own, nor make a conflict with the user.
    field.add(claim(2, &cloud_ai(), "its", &[]));
    field.add(standing(claim(3, &anna, "hers again", &[2]), Standing::Suggestion));
    assert_eq!(value(&field), Some("its"));
    assert_eq!(field.suggestions().len(), 2);
    assert!(field.conflict().is_empty());
    // Accepting makes it the user's.
    field.add(Claim { accepts: Some(id(3)), ..claim(4, &user(), "hers again", &[1, 2, 3]) });
    assert_eq!(value(&field), Some("hers again"));
    assert!(field.suggestions().is_empty());
}

#[test]
fn t10_a_peer_who_did_not_see_the_users_value_makes_a_conflict_of_it() {
    let anna = Actor::new(Truth::User, 2);
    let field = field(&[claim(1, &user(), "mine", &[]), claim(9, &anna, "hers", &[])]);
    assert_eq!(field.conflict().len(), 2);
}

#[test]
fn t10_what_is_held_is_not_there_until_it_is_let_go() {
    let anna = Actor::new(Truth::User, 2);
    let mut field = field(&[claim(1, &user(), "mine", &[]), claim(2, &anna, "hers", &[1])]);
    let free = field.clone();
    field.restand(&[id(2)], Standing::Held);
    assert_eq!(value(&field), Some("mine"));
    assert!(field.conflict().is_empty() && field.suggestions().is_empty());
    let born_held = {
        let mut field = self::field(&[claim(1, &user(), "mine", &[])]);
        field.add(standing(claim(2, &anna, "hers", &[1]), Standing::Held));
        field
    };
    assert_eq!(field, born_held);
    field.restand(&[id(2)], Standing::Full);
    assert_eq!(field, free);
    // A verdict can be held as well.
    field.reject(id(7), id(2), &author(&anna, 7));
    assert_eq!(value(&field), Some("mine"));
    field.restand(&[id(7)], Standing::Held);
    assert_eq!(value(&field), Some("hers"));
}

#[derive(Debug, Clone)]
enum Said {
    Claim(Claim),
    Retract(EventId, Authorship),
    Reject(EventId, Authorship),
}

impl Said {
    /// The same on another brain: with other ids.
    fn renamed(self) -> Self {
        let other = |id: EventId| EventId::new(Uuid::from_u128(!id.uuid().as_u128()));
        match self {
            Self::Claim(claim) => {
                let supersedes = claim.supersedes.iter().copied().map(other).collect();
                Self::Claim(Claim { id: other(claim.id), supersedes, ..claim })
            }
            Self::Retract(claim, by) => Self::Retract(other(claim), by),
            Self::Reject(claim, by) => Self::Reject(other(claim), by),
        }
    }
}

impl FieldClaims {
    fn hear(&mut self, said: Said) {
        match said {
            Said::Claim(claim) => self.add(claim),
            Said::Retract(claim, by) => self.retract(id(900), claim, &by),
            Said::Reject(claim, by) => self.reject(id(900), claim, &by),
        }
    }
}

/// Claims that supersede any earlier ones, whether heads or not, with retractions and rejections of any of them.
fn history() -> impl Strategy<Value = Vec<Said>> {
    let level =
        || prop::sample::select(vec![1_u8, 1, 1, 2, 5]).prop_map(|level| Truth::try_from(level).expect("1 to 5"));
    let claim_of = move |number: u64| {
        (level(), 1..=2_u128, 0..4_u8, prop::collection::vec(1..=number, 0..3)).prop_map(
            move |(truth, who, value, seen)| {
                let seen: Vec<u64> = seen.into_iter().filter(|seen| *seen < number).collect();
                Said::Claim(claim(number, &Actor::new(truth, who), &value.to_string(), &seen))
            },
        )
    };
    let verdict = (level(), 1..=2_u128, 1..9_u64, any::<bool>(), 100..200_u64).prop_map(
        |(truth, who, about, retract, at)| {
            let by = author(&Actor::new(truth, who), at);
            if retract { Said::Retract(id(about), by) } else { Said::Reject(id(about), by) }
        },
    );
    let claims: Vec<_> = (1..9_u64).map(claim_of).collect();
    (claims, prop::collection::vec(verdict, 0..6)).prop_map(|(claims, verdicts)| [claims, verdicts].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn t3_the_order_of_arrival_never_matters((history, other) in history().prop_flat_map(|history| {
        (Just(history.clone()), Just(history).prop_shuffle())
    })) {
        let mut in_order = FieldClaims::default();
        history.into_iter().for_each(|said| in_order.hear(said));
        let mut shuffled = FieldClaims::default();
        other.into_iter().for_each(|said| shuffled.hear(said));
        prop_assert_eq!(heads(&in_order), heads(&shuffled));
        prop_assert_eq!(in_order.effective(), shuffled.effective());
        prop_assert_eq!(in_order.suggestions(), shuffled.suggestions());
        prop_assert_eq!(in_order.conflict(), shuffled.conflict());
        prop_assert_eq!(&in_order.retractions, &shuffled.retractions);
        prop_assert_eq!(&in_order.rejections, &shuffled.rejections);
    }

    #[test]
    fn t3_ids_that_differ_between_brains_never_matter(history in history(), same_time in any::<bool>()) {
        let at_once = |said: Said| match said {
            Said::Claim(mut claim) if same_time => {
                claim.author.hlc = Hlc::default();
                Said::Claim(claim)
            }
            said => said,
        };
        let (mut one, mut other) = (FieldClaims::default(), FieldClaims::default());
        history.iter().cloned().map(at_once).for_each(|said| one.hear(said));
        history.into_iter().map(|said| at_once(said).renamed()).for_each(|said| other.hear(said));
        prop_assert_eq!(value(&one), value(&other));
        prop_assert_eq!(one.conflict().len(), other.conflict().len());
        prop_assert_eq!(one.suggestions().len(), other.suggestions().len());
    }

    #[test]
    fn t2_the_quick_way_gives_the_heads_that_the_rule_gives(history in history().prop_shuffle()) {
        let mut field = FieldClaims::default();
        for said in history {
            field.hear(said);
            let mut derived = field.clone();
            derived.derive_heads();
            prop_assert_eq!(&field, &derived);
        }
    }

    #[test]
    fn t2_every_claim_that_is_no_head_is_reached_from_one_or_was_taken_back(history in history()) {
        // The rule again, spelled another way: paths from heads, instead of a mark on what is replaced.
        let mut field = FieldClaims::default();
        history.into_iter().for_each(|said| field.hear(said));
        let heads = heads(&field);
        let mut reached: BTreeSet<EventId> = BTreeSet::new();
        let mut open: Vec<&Claim> = field.heads();
        while let Some(claim) = open.pop() {
            let seen = claim.supersedes.iter().filter_map(|id| field.get(*id));
            let seen = seen.filter(|seen| seen.author.truth >= claim.author.truth);
            open.extend(seen.filter(|seen| reached.insert(seen.id)));
        }
        for claim in field.all() {
            let live = !field.is_retracted(claim) && !field.is_rejected(claim.id);
            prop_assert_eq!(heads.contains(&claim.id), live && !reached.contains(&claim.id));
        }
    }
}
