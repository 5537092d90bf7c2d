//! What a read asks for.

use std::sync::Arc;

use cairn_event_store::{Direction, Position, Revision};
use cairn_proto::event_store::client::streams::ReadReq;
use cairn_proto::event_store::client::streams::read_req::Options;
use cairn_proto::event_store::client::streams::read_req::options::{
    CountOption, FilterOption, ReadDirection, StreamOption, all_options, stream_options, uuid_option,
};

use crate::failure::Failure;
use crate::filter::EventFilter;
use crate::ids::Spelling;
use crate::names;

/// A read, or a subscription.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) source: Source,
    pub(crate) direction: Direction,
    pub(crate) extent: Extent,
    pub(crate) spelling: Spelling,
    /// Whether the client understands where a stream begins and ends.
    pub(crate) tells_ends: bool,
}

/// What is read.
#[derive(Debug)]
pub(crate) enum Source {
    /// One stream.
    Stream {
        /// Its name.
        stream: Arc<str>,
        /// Where to begin.
        from: Begin<Revision>,
    },
    /// The whole log.
    All {
        /// Where to begin.
        from: Begin<Position>,
        /// What of it.
        filter: Option<EventFilter>,
    },
}

/// A place to begin at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin<T> {
    Start,
    End,
    At(T),
}

/// How far to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// So many events.
    Count(u64),
    /// On and on.
    Following,
}

impl Plan {
    pub(crate) fn parse(request: ReadReq) -> Result<Self, Failure> {
        let options = request.options.ok_or_else(|| Failure::Invalid("the options are missing".into()))?;
        let direction = match options.read_direction() {
            ReadDirection::Forwards => Direction::Forwards,
            ReadDirection::Backwards => Direction::Backwards,
        };
        let extent = match options.count_option {
            Some(CountOption::Count(count)) => Extent::Count(count),
            Some(CountOption::Subscription(_)) if direction == Direction::Backwards => {
                return Err(Failure::Invalid("a subscription goes forwards".into()));
            }
            Some(CountOption::Subscription(_)) => Extent::Following,
            None => return Err(Failure::Invalid("it says neither how many nor to subscribe".into())),
        };
        let spelling = match options.uuid_option.and_then(|option| option.content) {
            Some(uuid_option::Content::String(_)) => Spelling::Text,
            Some(uuid_option::Content::Structured(_)) => Spelling::Structured,
            None => return Err(Failure::Invalid("it does not say how to spell ids (uuid_option)".into())),
        };
        let tells_ends = options.control_option.is_some_and(|control| control.compatibility >= 1);
        Ok(Self { source: source(options)?, direction, extent, spelling, tells_ends })
    }
}

fn source(options: Options) -> Result<Source, Failure> {
    match options.stream_option {
        Some(StreamOption::Stream(stream)) => {
            use stream_options::RevisionOption;
            let from = match stream.revision_option {
                Some(RevisionOption::Revision(revision)) => Begin::At(Revision(revision)),
                Some(RevisionOption::End(_)) => Begin::End,
                Some(RevisionOption::Start(_)) | None => Begin::Start,
            };
            Ok(Source::Stream { stream: names::parse(stream.stream_identifier)?, from })
        }
        Some(StreamOption::All(all)) => {
            use all_options::AllOption;
            let from = match all.all_option {
                Some(AllOption::Position(position)) => Begin::At(Position(position.commit_position)),
                Some(AllOption::End(_)) => Begin::End,
                Some(AllOption::Start(_)) | None => Begin::Start,
            };
            let filter = match options.filter_option {
                Some(FilterOption::Filter(filter)) => Some(EventFilter::parse(filter)?),
                Some(FilterOption::NoFilter(_)) | None => None,
            };
            Ok(Source::All { from, filter })
        }
        None => Err(Failure::Invalid("it says neither a stream nor all".into())),
    }
}
