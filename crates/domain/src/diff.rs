//! Differences between texts: as splices for an edit, as lines for a person.

use similar::{Algorithm, ChangeTag, DiffTag, TextDiff};

use crate::body::{MAX_SPLICES, Splice};

/// Texts longer than this many characters together are compared by lines instead of characters:
/// a comparison by characters would take too long.
const CHARACTERWISE_LIMIT: usize = 20_000;

/// The splices that turn `old` into `new`, to be applied one after the other. Empty when they are equal.
pub fn splices(old: &str, new: &str) -> Vec<Splice> {
    let (mut at, mut passed) = (0, 0);
    let splice = |Hunk { start, end, insert }| {
        at += old[passed..start].chars().count();
        passed = end;
        let splice = Splice { at, delete: old[start..end].chars().count(), insert };
        at += splice.insert.chars().count();
        splice
    };
    hunks(old, new).into_iter().map(splice).collect()
}

/// Both changes to a text at once. Where both insert at one place, mine comes first; what both did is done once.
pub fn three_way(base: &str, mine: &str, theirs: &str) -> String {
    let mut hunks: Vec<Hunk> = [hunks(base, mine), hunks(base, theirs)].into_iter().flatten().collect();
    // The sort keeps mine before theirs.
    hunks.sort_by_key(|hunk| hunk.start);
    hunks.dedup();
    let mut merged = String::with_capacity(mine.len().max(theirs.len()));
    // Up to where the base is copied, or gone.
    let mut done = 0;
    for Hunk { start, end, insert } in hunks {
        if start > done {
            merged.push_str(&base[done..start]);
            done = start;
        }
        merged.push_str(&insert);
        done = done.max(end);
    }
    merged.push_str(&base[done..]);
    merged
}

/// A change to a part of a text, in bytes of that text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hunk {
    start: usize,
    end: usize,
    insert: String,
}

/// What turns `old` into `new`, from the start to the end.
fn hunks(old: &str, new: &str) -> Vec<Hunk> {
    if old == new {
        return Vec::new();
    }
    let (prefix, suffix) = common_ends(old, new);
    let (old_middle, new_middle) = (&old[prefix..old.len() - suffix], &new[prefix..new.len() - suffix]);
    if old_middle.is_empty() || new_middle.is_empty() {
        return vec![Hunk { start: prefix, end: prefix + old_middle.len(), insert: new_middle.to_owned() }];
    }
    let diff = if old_middle.len() + new_middle.len() > CHARACTERWISE_LIMIT {
        TextDiff::configure().algorithm(Algorithm::Patience).diff_lines(old_middle, new_middle)
    } else {
        TextDiff::configure().algorithm(Algorithm::Myers).diff_unicode_words(old_middle, new_middle)
    };
    let mut start = prefix;
    let mut hunks = Vec::new();
    for op in diff.ops() {
        let end = start + diff.old_slices()[op.old_range()].iter().map(|word| word.len()).sum::<usize>();
        if op.tag() != DiffTag::Equal {
            hunks.push(Hunk { start, end, insert: diff.new_slices()[op.new_range()].concat() });
        }
        start = end;
    }
    match hunks.as_slice() {
        [first, .., last] if hunks.len() > MAX_SPLICES => {
            let (start, end) = (first.start, last.end);
            let insert = new[start..new.len() - (old.len() - end)].to_owned();
            vec![Hunk { start, end, insert }]
        }
        _ => hunks,
    }
}

/// A unified diff of two texts, with three lines of context. Empty when they are equal.
pub fn unified(old: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    TextDiff::from_lines(old, new).unified_diff().context_radius(3).to_string()
}

/// How many lines were added and how many went.
pub fn line_counts(old: &str, new: &str) -> (usize, usize) {
    let diff = TextDiff::from_lines(old, new);
    let count = |tag| diff.iter_all_changes().filter(|change| change.tag() == tag).count();
    (count(ChangeTag::Insert), count(ChangeTag::Delete))
}

/// How many bytes two different texts share at their starts and at their ends, where a person would cut:
/// a change that reaches into a word from outside takes the whole word, so that merging leaves no halves of words.
fn common_ends(old: &str, new: &str) -> (usize, usize) {
    let prefix = common_prefix(old, new);
    let suffix = common_suffix(&old[prefix..], &new[prefix..]);
    let longer = if old.len() > new.len() { old } else { new };
    if prefix + suffix == old.len().min(new.len()) {
        // Something came or went, and may as well have done so a little earlier: "on[e tw]e" is "o[ne t]we".
        let slid = slid_to_a_word(longer, prefix, longer.len() - suffix);
        return (prefix - slid, suffix + slid);
    }
    let ends_in_word = |text: &str| text.chars().next_back().is_some_and(char::is_alphanumeric);
    let starts_in_word = |text: &str| text.chars().next().is_some_and(char::is_alphanumeric);
    let (old_middle, new_middle) = (&old[prefix..old.len() - suffix], &new[prefix..new.len() - suffix]);
    let (before, after) = (&old[..prefix], &old[old.len() - suffix..]);
    let cut = |word: bool, length: usize| if word { length } else { 0 };
    let head = before.len() - before.trim_end_matches(char::is_alphanumeric).len();
    let tail = after.len() - after.trim_start_matches(char::is_alphanumeric).len();
    (
        prefix - cut(starts_in_word(old_middle) || starts_in_word(new_middle), head),
        suffix - cut(ends_in_word(old_middle) || ends_in_word(new_middle), tail),
    )
}

/// By how many bytes `text[start..end]` can move towards the start, saying the same, to start where a word does.
fn slid_to_a_word(text: &str, start: usize, end: usize) -> usize {
    let mut slid = 0;
    for (before, last) in text[..start].chars().rev().zip(text[..end].chars().rev()) {
        if !before.is_alphanumeric() {
            return slid;
        }
        if before != last {
            return 0;
        }
        slid += before.len_utf8();
    }
    slid
}

fn common_prefix(a: &str, b: &str) -> usize {
    a.char_indices().zip(b.chars()).find(|((_, x), y)| x != y).map_or(a.len().min(b.len()), |((at, _), _)| at)
}

fn common_suffix(a: &str, b: &str) -> usize {
    a.chars().rev().zip(b.chars().rev()).take_while(|(x, y)| x == y).map(|(x, _)| x.len_utf8()).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = r"([a-c\né🪨 ]{0,4}|word |\r\n){0,12}";

    #[test]
    fn t9_changes_are_told_by_whole_words_except_within_one() {
        let told = |old: &str, new: &str| {
            let hunks = hunks(old, new);
            hunks.into_iter().map(|hunk| (old[hunk.start..hunk.end].to_owned(), hunk.insert)).collect::<Vec<_>>()
        };
        let one = |went: &str, came: &str| vec![(went.to_owned(), came.to_owned())];
        assert_eq!(told("one two three", "one three"), one("two ", ""));
        assert_eq!(told("one three", "one two three"), one("", "two "));
        assert_eq!(told("herons", "heroons"), one("", "o"));
        assert_eq!(told("a heron", "a herring"), one("heron", "herring"));
        assert_eq!(told("two", "two two"), one("", "two "));
    }

    #[test]
    fn t9_both_changes_are_made_and_neither_is_lost() {
        for (base, mine, theirs, both) in [
            ("one two three", "ONE two three", "one two THREE", "ONE two THREE"),
            ("one two", "one two mine", "one two theirs", "one two mine theirs"),
            ("one two three", "one three", "one 2 three", "one 2three"),
            ("the tall heron", "the heron", "the tall grey heron", "the grey heron"),
            ("one two", "one", "one", "one"),
            ("", "mine", "theirs", "minetheirs"),
            ("a", "a b", "a b", "a b"),
        ] {
            assert_eq!(three_way(base, mine, theirs), both, "{base:?}, {mine:?}, {theirs:?}");
        }
    }

    proptest! {
        #[test]
        fn t9_a_side_that_changed_nothing_has_no_say(base in TEXT, changed in TEXT) {
            prop_assert_eq!(&three_way(&base, &changed, &base), &changed);
            prop_assert_eq!(&three_way(&base, &base, &changed), &changed);
            prop_assert_eq!(&three_way(&base, &changed, &changed), &changed);
        }

        #[test]
        fn t9_all_that_either_side_inserts_is_there(base in TEXT, mine in TEXT, theirs in TEXT) {
            let merged = three_way(&base, &mine, &theirs);
            for hunk in hunks(&base, &mine).into_iter().chain(hunks(&base, &theirs)) {
                prop_assert!(merged.contains(&hunk.insert));
            }
        }
    }
}
