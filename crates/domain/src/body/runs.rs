//! The runs of a weave, each after a character of another, and the order in which all characters stand.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::btree_map::Iter;

use super::rope::Piece;

/// What an edit is called: follows from what it says, when it was said and upon what, and not from its id, which differs from one
/// brain to another. Who comes first where two insert at one place must not.
pub(super) type Name = [u8; 16];

/// A character: which run's, and the how manyth.
type Character = (usize, usize);

/// Where a run stands. The order of places is that of the runs after one character, and after those of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// After which character; none for the start of the text.
    after: Option<Character>,
    number: Reverse<u64>,
    name: Reverse<Name>,
}

/// Characters inserted by one splice.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) edit: usize,
    pub(super) splice: usize,
    pub(super) chars: usize,
    /// What stands after its characters.
    pub(super) after: BTreeMap<Place, usize>,
    place: Place,
    depth: usize,
    /// A run that it stands after, far up: makes the way up short.
    far: Option<usize>,
}

/// All runs of a weave. One stands after those that it is placed after.
#[derive(Debug, Clone, Default)]
pub(super) struct Runs {
    runs: Vec<Run>,
    roots: BTreeMap<Place, usize>,
}

impl Place {
    /// `number` is the first number given to the run, `name` that of its edit.
    pub(super) fn new(after: Option<Character>, number: u64, name: Name) -> Self {
        Self { after, number: Reverse(number), name: Reverse(name) }
    }

    /// After the how manyth character of a run.
    pub(super) fn offset(&self) -> usize {
        self.after.map_or(0, |(_, offset)| offset)
    }
}

impl Run {
    pub(super) fn new(place: Place, edit: usize, splice: usize, chars: usize) -> Self {
        Self { edit, splice, chars, after: BTreeMap::new(), place, depth: 0, far: None }
    }

    fn up(&self) -> Option<usize> {
        self.place.after.map(|(run, _)| run)
    }
}

impl Runs {
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn get(&self, run: usize) -> &Run {
        &self.runs[run]
    }

    /// Those at the start of the text.
    pub(super) fn roots(&self) -> Iter<'_, Place, usize> {
        self.roots.iter()
    }

    /// A run as a piece.
    pub(super) fn whole(&self, run: usize, bytes: usize) -> Piece {
        Piece { run, from: 0, chars: self.runs[run].chars, byte: 0, bytes }
    }

    pub(super) fn push(&mut self, mut run: Run) {
        let at = self.runs.len();
        match run.up() {
            Some(up) => {
                run.depth = self.runs[up].depth + 1;
                run.far = self.far_from(up);
                self.runs[up].after.insert(run.place, at);
            }
            None => {
                self.roots.insert(run.place, at);
            }
        }
        self.runs.push(run);
    }

    /// The far run of one after `up`: two equally long ways of those before are made one.
    fn far_from(&self, up: usize) -> Option<usize> {
        let depth = |run: Option<usize>| run.map_or(0, |run| self.runs[run].depth + 1);
        let far = self.runs[up].far;
        let farther = far.and_then(|far| self.runs[far].far);
        match depth(Some(up)) - depth(far) == depth(far) - depth(farther) {
            true => farther,
            false => Some(up),
        }
    }

    /// How many of a piece's first characters stand before a character, or up to and with it.
    pub(super) fn before(&self, piece: Piece, at: Character, with_it: bool) -> usize {
        let last = piece.from + piece.chars;
        let upto = match self.meet(piece.run, at.0) {
            // In the run itself, or after one of its characters.
            Met::Above(None) => at.1 + usize::from(with_it),
            Met::Above(Some(place)) => place.offset() + 1,
            // The piece stands after a character of the run.
            Met::Below(place) if place.offset() < at.1 => last,
            Met::Below(_) => 0,
            Met::Beside(mine, other) if mine < other => last,
            Met::Beside(..) => 0,
        };
        upto.clamp(piece.from, last) - piece.from
    }

    /// How two runs stand to each other.
    fn meet(&self, mine: usize, other: usize) -> Met {
        let (top, bottom) = (self.runs[mine].depth, self.runs[other].depth);
        let depth = top.min(bottom);
        let (mut one, mut two) = (self.lifted(mine, depth), self.lifted(other, depth));
        if one == two {
            return match (top > depth, bottom > depth) {
                (true, _) => Met::Below(self.runs[self.lifted(mine, depth + 1)].place),
                (_, true) => Met::Above(Some(self.runs[self.lifted(other, depth + 1)].place)),
                _ => Met::Above(None),
            };
        }
        // Up to where both stand after one run, or at the start.
        while self.runs[one].up() != self.runs[two].up() {
            let (far, farther) = (self.runs[one].far, self.runs[two].far);
            match (far, farther) {
                (Some(far), Some(farther)) if far != farther => (one, two) = (far, farther),
                _ => {
                    let up = |run: usize| self.runs[run].up().expect("runs of one depth, not at the start");
                    (one, two) = (up(one), up(two));
                }
            }
        }
        Met::Beside(self.runs[one].place, self.runs[two].place)
    }

    /// The run that one stands after, or itself, at a depth.
    fn lifted(&self, mut run: usize, depth: usize) -> usize {
        while self.runs[run].depth > depth {
            let far = self.runs[run].far.filter(|far| self.runs[*far].depth >= depth);
            run = far.or(self.runs[run].up()).expect("deeper than the start");
        }
        run
    }
}

/// How one run stands to another.
enum Met {
    /// The other is it, or stands after it, with this place there.
    Above(Option<Place>),
    /// It stands after the other, with this place there.
    Below(Place),
    /// Both stand after a third, or at the start.
    Beside(Place, Place),
}
