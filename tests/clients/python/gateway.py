"""Drives a gateway with KurrentDB's Python client: `gateway.py <uri>`. Ends with an error when anything is not as it should be."""

import json
import sys
import threading
from uuid import uuid4

from kurrentdbclient import CaughtUp, Checkpoint, KurrentDBClient, NewEvent, StreamState
from kurrentdbclient.exceptions import (
    AccessDeniedError,
    NotFoundError,
    StreamIsDeletedError,
    WrongCurrentVersionError,
)


def event(kind="OrderPlaced", data=b'{"a": 1}', **more):
    return NewEvent(type=kind, data=data, **more)


def refuses(error, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except error as refused:
        return refused
    raise AssertionError(f"{error.__name__} was not raised")


def ids(events):
    return [event.id for event in events]


def appends(client):
    """Every expected version, one event and several, and the same again."""
    stream = f"orders-{uuid4()}"
    first, second, third = event(), event(), event()
    refuses(WrongCurrentVersionError, client.append_events, stream, current_version=1, events=[first])
    refuses(WrongCurrentVersionError, client.append_events, stream, current_version=StreamState.EXISTS, events=[first])
    position = client.append_to_stream(stream, current_version=StreamState.NO_STREAM, events=first)
    wrong = refuses(
        WrongCurrentVersionError, client.append_to_stream, stream, current_version=StreamState.NO_STREAM, events=second
    )
    assert wrong.actual_version == 0, wrong
    later = client.append_to_stream(stream, current_version=0, events=[second, third])
    assert later > position
    assert client.append_to_stream(stream, current_version=0, events=[second, third]) == later, "once only"
    client.append_to_stream(stream, current_version=StreamState.EXISTS, events=event())
    client.append_to_stream(stream, current_version=StreamState.ANY, events=event())
    refuses(WrongCurrentVersionError, client.append_to_stream, stream, current_version=0, events=[third, event()])
    assert client.get_current_version(stream) == 4
    assert ids(client.get_stream(stream))[:3] == ids([first, second, third])


def single_append(client):
    """The call that takes one stream of events, apart from batches."""
    stream = f"orders-{uuid4()}"
    client.append_event(stream, current_version=StreamState.NO_STREAM, event=event())
    refuses(WrongCurrentVersionError, client.append_event, stream, current_version=7, event=event())
    assert client.get_current_version(stream) == 0


def reads(client):
    """A stream and the log, both ways, from within, up to a limit."""
    stream = f"orders-{uuid4()}"
    refuses(NotFoundError, client.get_stream, stream)
    sent = [event(f"Kind{number}") for number in range(600)]
    last = client.append_events(stream, current_version=StreamState.NO_STREAM, events=sent)
    assert ids(client.get_stream(stream)) == ids(sent)
    assert ids(client.get_stream(stream, backwards=True)) == ids(reversed(sent))
    assert ids(client.get_stream(stream, stream_position=10, limit=5)) == ids(sent[10:15])
    assert ids(client.get_stream(stream, stream_position=10, backwards=True, limit=3)) == ids(sent[10:7:-1])
    assert client.get_commit_position() == last
    assert ids(client.read_all(commit_position=last - 599)) == ids(sent)
    assert ids(client.read_all(backwards=True, limit=2)) == ids([sent[-1], sent[-2]])
    assert ids(client.read_all(commit_position=last, backwards=True, limit=1)) == ids([sent[-2]])
    recorded = client.get_stream(stream, limit=1)[0]
    assert recorded.commit_position == recorded.prepare_position == last - 599
    assert recorded.recorded_at.year >= 2024, recorded.recorded_at


def filters(client):
    """By type and by stream, with patterns and prefixes, in and out."""
    mark = uuid4().hex[:8]
    start = client.get_commit_position(filter_exclude=[])
    kinds = [f"{mark}Placed", f"{mark}Paid", "Other", f"{mark}Sent"]
    for number, kind in enumerate(kinds):
        client.append_to_stream(f"{mark}-{number}", current_version=StreamState.ANY, events=event(kind))

    def read(**options):
        return [found.type for found in client.read_all(commit_position=start + 1, **options)]

    assert read(filter_include=[f"{mark}P.*"]) == kinds[:2]
    assert read(filter_include=[mark], filter_by_prefix=True) == [kinds[0], kinds[1], kinds[3]]
    assert read(filter_exclude=[f"{mark}.*"]) == ["Other"]
    assert read(filter_include=[f"{mark}-2"], filter_by_stream_name=True) == ["Other"]
    assert read(filter_exclude=[f"{mark}-2"], filter_by_stream_name=True) == [kinds[0], kinds[1], kinds[3]]


def subscriptions(client):
    """To a stream and to the log: what is there, then what comes; checkpoints; catching up."""
    stream = f"orders-{uuid4()}"
    sent = [event() for _ in range(5)]
    position = client.append_to_stream(stream, current_version=StreamState.ANY, events=sent[:2])
    of_stream = client.subscribe_to_stream(stream, include_caught_up=True, timeout=30)
    of_log = client.subscribe_to_all(commit_position=position, timeout=30)
    assert ids([next(of_stream), next(of_stream)]) == ids(sent[:2])
    assert isinstance(next(of_stream), CaughtUp)
    writer = threading.Thread(
        target=lambda: [client.append_to_stream(stream, current_version=StreamState.ANY, events=one) for one in sent[2:]]
    )
    writer.start()
    assert ids([next(of_stream) for _ in range(3)]) == ids(sent[2:])
    assert ids([next(of_log) for _ in range(3)]) == ids(sent[2:])
    writer.join()
    of_stream.stop()
    of_log.stop()
    checked = client.subscribe_to_all(
        filter_exclude=[".*"], include_checkpoints=True, window_size=1, checkpoint_interval_multiplier=1, timeout=30
    )
    assert isinstance(next(checked), Checkpoint)
    checked.stop()


def removals(client):
    """Deleted streams come back, tombstones do not."""
    stream = f"orders-{uuid4()}"
    refuses(NotFoundError, client.delete_stream, stream, current_version=StreamState.ANY)
    client.append_to_stream(stream, current_version=StreamState.NO_STREAM, events=[event(), event()])
    refuses(WrongCurrentVersionError, client.delete_stream, stream, current_version=0)
    client.delete_stream(stream, current_version=1)
    refuses(NotFoundError, client.get_stream, stream)
    refuses(StreamIsDeletedError, client.delete_stream, stream, current_version=StreamState.EXISTS)
    assert client.get_current_version(stream) is StreamState.NO_STREAM
    anew = event()
    client.append_to_stream(stream, current_version=StreamState.NO_STREAM, events=anew)
    assert ids(client.get_stream(stream)) == [anew.id]
    assert client.get_current_version(stream) == 2
    refuses(WrongCurrentVersionError, client.tombstone_stream, stream, current_version=0)
    client.tombstone_stream(stream, current_version=2)
    refuses(StreamIsDeletedError, client.get_stream, stream)
    refuses(StreamIsDeletedError, client.append_events, stream, current_version=StreamState.ANY, events=[event()])


def metadata(client):
    """Data and metadata of any kind come back as they were sent; streams have metadata of their own."""
    stream = f"orders-{uuid4()}"
    sent = [
        event(data=b'{"b" : 1.50, "a":[]}', metadata=b'{"$correlationId" : "x",\n "n": 1e3}'),
        event(data=b"\x00\xff\x01", metadata=b"\xfe", content_type="application/octet-stream"),
        event(data=b"not json", metadata=b" "),
    ]
    client.append_to_stream(stream, current_version=StreamState.ANY, events=sent)
    for one, found in zip(sent, client.get_stream(stream)):
        assert (found.data, found.metadata, found.content_type) == (one.data, one.metadata, one.content_type), found
    assert client.get_stream_metadata(stream) == ({}, StreamState.NO_STREAM)
    client.set_stream_metadata(stream, metadata={"$maxCount": 1, "x": "y"})
    assert client.get_stream_metadata(stream)[0] == {"$maxCount": 1, "x": "y"}
    assert ids(client.get_stream(stream)) == ids(sent[2:])


def memories(client):
    """What the node wrote can be read and followed, not written."""
    found = client.get_stream("memory-1")
    assert [one.type for one in found] == ["memory.created"]
    assert json.loads(found[0].metadata)["truth"] == 1
    assert ids(client.read_all(filter_include=["memory-"], filter_by_prefix=True, filter_by_stream_name=True)) == ids(found)
    for stream in ["memory-1", "memory-2", "principal-1"]:
        refuses(AccessDeniedError, client.append_events, stream, current_version=StreamState.ANY, events=[event()])
        refuses(AccessDeniedError, client.delete_stream, stream, current_version=StreamState.ANY)
        refuses(AccessDeniedError, client.tombstone_stream, stream, current_version=StreamState.ANY)


def main():
    client = KurrentDBClient(uri=sys.argv[1], root_certificates=root_certificates())
    for check in [appends, single_append, reads, filters, subscriptions, removals, metadata, memories]:
        check(client)
        print("ok", check.__name__)
    client.close()


def root_certificates():
    if len(sys.argv) < 3:
        return None
    with open(sys.argv[2], "rb") as file:
        return file.read()


if __name__ == "__main__":
    main()
