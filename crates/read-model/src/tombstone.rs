//! All that is left of memories whose content was destroyed; every read model has them.

use crate::change::MemoryChange;
use crate::table::{Cell, Presence, Shape, Sink, Table, id, number, time};

static TOMBSTONES: Table = Table::new(Shape {
    name: "tombstones",
    columns: &[id("memory"), time("at"), number("position")],
    key: 1,
    part: 1,
    memory: 0,
});

pub(crate) fn put(sink: &mut dyn Sink, change: &MemoryChange) {
    let row = [
        Cell::Id(change.memory.id().uuid().into_bytes()),
        Cell::Time(change.recorded_at.timestamp_millis()),
        Cell::Number(change.position.cast_signed()),
    ];
    sink.put(&TOMBSTONES, &row, Presence::Possible);
}
