//! The text at any edits of the graph.
//!
//! Where the graph is a line, splices are applied one after the other. Where it branches, all edits are woven together.

use super::splice::apply_to;
use super::weave::{Places, Weave};
use super::{Body, CorruptBody};
use crate::id::EventId;

/// Some edits and everything they were made from.
///
/// # Errors
/// When one of them is not there.
pub(super) fn closure(body: &Body, from: &[EventId]) -> Result<Places, CorruptBody> {
    let place = |id: &EventId| {
        let missing = || CorruptBody { event: *id, reason: "the edit is not part of the history".into() };
        body.index.get(id).copied().ok_or_else(missing)
    };
    let mut inside = vec![false; body.edits.len()];
    let mut open = from.iter().map(place).collect::<Result<Vec<usize>, _>>()?;
    while let Some(at) = open.pop() {
        if !std::mem::replace(&mut inside[at], true) {
            for parent in &body.edits[at].parents {
                open.push(place(parent)?);
            }
        }
    }
    Ok(inside)
}

/// The merged text of some edits.
pub(super) fn text_at(body: &Body, heads: &[EventId]) -> Result<String, CorruptBody> {
    if body.settled().is_some_and(|effective| effective.heads == heads) {
        return Ok(body.text().to_owned());
    }
    let inside = closure(body, heads)?;
    if is_line(body, &inside) {
        let mut text = String::new();
        for (edit, _) in body.edits.iter().zip(&inside).filter(|(_, inside)| **inside) {
            apply_to(&mut text, &edit.splices).map_err(|reason| CorruptBody { event: edit.id, reason })?;
        }
        return Ok(text);
    }
    let weave = body.woven()?;
    Ok(weave.text(&body.edits, &woven(weave, &inside)))
}

/// The same edits as the weave counts them, which holds one of each name.
pub(super) fn woven(weave: &Weave, inside: &Places) -> Places {
    let mut woven = Places::new();
    weave.take_in(&mut woven, (0..inside.len()).filter(|at| inside[*at]));
    woven
}

fn is_line(body: &Body, inside: &Places) -> bool {
    let mut last: Option<EventId> = None;
    body.edits.iter().zip(inside).filter(|(_, inside)| **inside).all(|(edit, _)| {
        let follows = edit.parents.as_slice() == last.as_slice();
        last = Some(edit.id);
        follows
    })
}
