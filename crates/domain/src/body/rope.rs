//! A text as a tree of pieces that is never changed: a text made from another one shares with it all that they have in common.
//!
//! Splitting and joining cost the logarithm of the number of pieces, whatever was done before: the tree is balanced by weight.

use std::sync::Arc;

/// How much heavier than its sibling a tree may be, and when a rotation is a double one.
const DELTA: usize = 3;
const RATIO: usize = 2;

/// Consecutive characters of one insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Which insertion.
    pub(super) run: usize,
    /// From which of its characters.
    pub(super) from: usize,
    /// How many.
    pub(super) chars: usize,
    /// The same in bytes.
    pub(super) byte: usize,
    pub(super) bytes: usize,
}

/// A text; empty by default.
#[derive(Debug, Clone, Default)]
pub(super) struct Rope(Option<Arc<Node>>);

#[derive(Debug)]
struct Node {
    left: Rope,
    piece: Piece,
    right: Rope,
    pieces: usize,
    chars: usize,
    bytes: usize,
}

impl Piece {
    /// Cut in two after some of its characters, which take up `bytes`.
    fn cut(self, chars: usize, bytes: usize) -> (Self, Self) {
        let rest = Self {
            from: self.from + chars,
            chars: self.chars - chars,
            byte: self.byte + bytes,
            bytes: self.bytes - bytes,
            ..self
        };
        (Self { chars, bytes, ..self }, rest)
    }
}

impl Rope {
    /// The pieces, one after the other.
    pub(super) fn of(pieces: &[Piece]) -> Self {
        let Some((left, [piece, right @ ..])) = pieces.split_at_checked(pieces.len() / 2) else {
            return Self::default();
        };
        Self::node(Self::of(left), *piece, Self::of(right))
    }

    /// How many pieces it is made of.
    pub(super) fn pieces(&self) -> usize {
        self.0.as_ref().map_or(0, |node| node.pieces)
    }

    pub(super) fn chars(&self) -> usize {
        self.0.as_ref().map_or(0, |node| node.chars)
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |node| node.bytes)
    }

    pub(super) fn last(&self) -> Option<Piece> {
        let mut node = self.0.as_ref()?;
        while let Some(right) = &node.right.0 {
            node = right;
        }
        Some(node.piece)
    }

    pub(super) fn each(&self, on: &mut impl FnMut(Piece)) {
        if let Some(node) = &self.0 {
            node.left.each(on);
            on(node.piece);
            node.right.each(on);
        }
    }

    /// What stands before a character, and what from it on. `bytes` tells how many bytes the first characters of a piece take up.
    pub(super) fn split(&self, at: usize, bytes: &impl Fn(Piece, usize) -> usize) -> (Self, Self) {
        let Some(node) = &self.0 else { return Self::default().twice() };
        let before = node.left.chars();
        let upto = before + node.piece.chars;
        if at <= before {
            let (one, other) = node.left.split(at, bytes);
            (one, Self::joined(&other, node.piece, &node.right))
        } else if at >= upto {
            let (one, other) = node.right.split(at - upto, bytes);
            (Self::joined(&node.left, node.piece, &one), other)
        } else {
            let (one, other) = node.piece.cut(at - before, bytes(node.piece, at - before));
            let nothing = Self::default();
            (Self::joined(&node.left, one, &nothing), Self::joined(&nothing, other, &node.right))
        }
    }

    /// What stands before a place, and what after it. `before` tells how many of a piece's first characters stand before it.
    pub(super) fn split_where(
        &self,
        before: &impl Fn(Piece) -> usize,
        bytes: &impl Fn(Piece, usize) -> usize,
    ) -> (Self, Self) {
        let Some(node) = &self.0 else { return Self::default().twice() };
        match before(node.piece) {
            0 => {
                let (one, other) = node.left.split_where(before, bytes);
                (one, Self::joined(&other, node.piece, &node.right))
            }
            chars if chars == node.piece.chars => {
                let (one, other) = node.right.split_where(before, bytes);
                (Self::joined(&node.left, node.piece, &one), other)
            }
            chars => {
                let (one, other) = node.piece.cut(chars, bytes(node.piece, chars));
                let nothing = Self::default();
                (Self::joined(&node.left, one, &nothing), Self::joined(&nothing, other, &node.right))
            }
        }
    }

    /// One text, a piece, and another text.
    pub(super) fn joined(left: &Self, piece: Piece, right: &Self) -> Self {
        match (&left.0, &right.0) {
            (_, Some(node)) if DELTA * left.pieces() < right.pieces() => {
                Self::balanced(Self::joined(left, piece, &node.left), node.piece, node.right.clone())
            }
            (Some(node), _) if DELTA * right.pieces() < left.pieces() => {
                Self::balanced(node.left.clone(), node.piece, Self::joined(&node.right, piece, right))
            }
            _ => Self::node(left.clone(), piece, right.clone()),
        }
    }

    /// One text, and then another one.
    pub(super) fn then(&self, right: &Self) -> Self {
        match right.without_first() {
            Some((first, rest)) => Self::joined(self, first, &rest),
            None => self.clone(),
        }
    }

    fn without_first(&self) -> Option<(Piece, Self)> {
        let node = self.0.as_ref()?;
        match node.left.without_first() {
            Some((first, rest)) => Some((first, Self::balanced(rest, node.piece, node.right.clone()))),
            None => Some((node.piece, node.right.clone())),
        }
    }

    fn twice(self) -> (Self, Self) {
        (self.clone(), self)
    }

    /// Balanced again after one side gained or lost a little.
    fn balanced(left: Self, piece: Piece, right: Self) -> Self {
        if left.pieces() + right.pieces() > 1 {
            if let Some(node) = right.0.as_ref().filter(|_| right.pieces() > DELTA * left.pieces()) {
                return match &node.left.0 {
                    Some(inner) if node.left.pieces() >= RATIO * node.right.pieces() => Self::node(
                        Self::node(left, piece, inner.left.clone()),
                        inner.piece,
                        Self::node(inner.right.clone(), node.piece, node.right.clone()),
                    ),
                    _ => Self::node(Self::node(left, piece, node.left.clone()), node.piece, node.right.clone()),
                };
            }
            if let Some(node) = left.0.as_ref().filter(|_| left.pieces() > DELTA * right.pieces()) {
                return match &node.right.0 {
                    Some(inner) if node.right.pieces() >= RATIO * node.left.pieces() => Self::node(
                        Self::node(node.left.clone(), node.piece, inner.left.clone()),
                        inner.piece,
                        Self::node(inner.right.clone(), piece, right),
                    ),
                    _ => Self::node(node.left.clone(), node.piece, Self::node(node.right.clone(), piece, right)),
                };
            }
        }
        Self::node(left, piece, right)
    }

    fn node(left: Self, piece: Piece, right: Self) -> Self {
        let pieces = left.pieces() + 1 + right.pieces();
        let chars = left.chars() + piece.chars + right.chars();
        let bytes = left.bytes() + piece.bytes + right.bytes();
        Self(Some(Arc::new(Node { left, piece, right, pieces, chars, bytes })))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn depth(rope: &Rope) -> u32 {
        rope.0.as_ref().map_or(0, |node| 1 + depth(&node.left).max(depth(&node.right)))
    }

    fn runs(rope: &Rope) -> Vec<usize> {
        let mut runs = Vec::new();
        rope.each(&mut |piece| runs.extend((piece.from..piece.from + piece.chars).map(|at| piece.run * 100 + at)));
        runs
    }

    proptest! {
        #[test]
        fn a_rope_is_what_its_pieces_are_and_stays_shallow(
            steps in prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize, 0..4_usize), 1..400),
        ) {
            let (mut rope, mut plain) = (Rope::default(), Vec::new());
            for (run, (at, delete, insert)) in steps.into_iter().enumerate() {
                let at = at.index(plain.len() + 1);
                let delete = delete.min(plain.len() - at);
                let (before, rest) = rope.split(at, &|_, chars| chars);
                let (_, after) = rest.split(delete, &|_, chars| chars);
                let piece = Piece { run, from: 0, chars: insert, byte: 0, bytes: insert };
                rope = if insert == 0 { before.then(&after) } else { Rope::joined(&before, piece, &after) };
                plain.splice(at..at + delete, (0..insert).map(|at| run * 100 + at));
                prop_assert_eq!(runs(&rope), plain.clone());
                prop_assert_eq!((rope.chars(), rope.bytes()), (plain.len(), plain.len()));
                let pieces = u32::try_from(rope.pieces()).expect("few");
                prop_assert!(depth(&rope) <= 3 * (u32::BITS - pieces.leading_zeros()), "{} of {pieces}", depth(&rope));
            }
        }
    }
}
