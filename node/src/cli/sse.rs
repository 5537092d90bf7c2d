//! Server-sent events: from lines to events, without knowing where the lines come from.

/// An event of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// Its id, to be sent as `Last-Event-ID` when the stream breaks.
    pub id: Option<String>,
    /// What it carries.
    pub data: String,
}

/// Puts events together from bytes that arrive in any pieces.
#[derive(Debug, Default)]
pub struct SseParser {
    buffer: Vec<u8>,
    event: SseEvent,
    has_data: bool,
}

/// An event that grows past [`MAX_EVENT_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {MAX_EVENT_BYTES} bytes")]
pub struct TooLong;

/// The longest event that is taken in: one with the largest body there may be fits well.
pub const MAX_EVENT_BYTES: usize = 64 * 1024 * 1024;

impl SseParser {
    /// Takes bytes in and gives the events that are complete now.
    ///
    /// # Errors
    /// When an event is too long; the parser is of no more use then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<SseEvent>, TooLong> {
        let searched = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        let mut events = Vec::new();
        let mut start = 0;
        let mut from = searched;
        while let Some(end) = self.buffer[from..].iter().position(|byte| *byte == b'\n').map(|at| from + at) {
            let line = self.buffer[start..end].strip_suffix(b"\r").unwrap_or(&self.buffer[start..end]).to_vec();
            events.extend(self.line(&String::from_utf8_lossy(&line)));
            start = end + 1;
            from = start;
        }
        self.buffer.drain(..start);
        if self.buffer.len() + self.event.data.len() > MAX_EVENT_BYTES { Err(TooLong) } else { Ok(events) }
    }

    fn line(&mut self, line: &str) -> Option<SseEvent> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "id" => self.event.id = Some(value.to_owned()),
            // Comments keep the connection alive; the type stands in the envelope too.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str = "id: 7\nevent: memory.created\ndata: {\"a\":1}\n\n: keep-alive\n\nid: 8\r\ndata: one\r\ndata: two\r\n\r\nid: 9\n\n";

    fn expected() -> Vec<SseEvent> {
        let event = |id: &str, data: &str| SseEvent { id: Some(id.into()), data: data.into() };
        vec![event("7", "{\"a\":1}"), event("8", "one\ntwo")]
    }

    #[test]
    fn events_end_with_an_empty_line_and_comments_are_nothing() {
        assert_eq!(SseParser::default().push(STREAM.as_bytes()), Ok(expected()));
    }

    proptest! {
        #[test]
        fn how_the_bytes_arrive_does_not_matter(cuts in prop::collection::vec(1_usize..9, 1..60)) {
            let mut parser = SseParser::default();
            let (mut events, mut rest) = (Vec::new(), STREAM.as_bytes());
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                events.extend(parser.push(now).expect("short"));
                rest = later;
            }
            events.extend(parser.push(rest).expect("short"));
            prop_assert_eq!(events, expected());
        }
    }
}
