// Drives a gateway with KurrentDB's Node.js client: `gateway.js <uri>`. Ends with an error when anything is not as it
// should be.
"use strict";

const assert = require("node:assert/strict");
const { randomUUID } = require("node:crypto");
const {
  ANY,
  AccessDeniedError,
  BACKWARDS,
  END,
  FORWARDS,
  KurrentDBClient,
  NO_STREAM,
  START,
  STREAM_EXISTS,
  StreamDeletedError,
  StreamNotFoundError,
  WrongExpectedVersionError,
  binaryEvent,
  eventTypeFilter,
  excludeSystemEvents,
  jsonEvent,
  streamNameFilter,
} = require("@kurrent/kurrentdb-client");

const event = (type = "OrderPlaced", more = {}) => jsonEvent({ type, data: { a: 1 }, ...more });
const name = () => `orders-${randomUUID()}`;
const ids = (events) => events.map((one) => one.id);

async function collect(reading) {
  const found = [];
  for await (const resolved of reading) found.push(resolved.event);
  return found;
}

async function take(subscription, count) {
  const found = [];
  for await (const resolved of subscription) {
    found.push(resolved.event);
    if (found.length === count) break;
  }
  return found;
}

async function appends(client) {
  const stream = name();
  const sent = [event(), event(), event()];
  const to = (streamState, events) => client.appendToStream(stream, events, { streamState });
  await assert.rejects(to(STREAM_EXISTS, sent[0]), WrongExpectedVersionError);
  await assert.rejects(to(3n, sent[0]), WrongExpectedVersionError);
  const first = await to(NO_STREAM, sent[0]);
  assert.ok(first.success);
  assert.equal(first.nextExpectedRevision, 0n);
  await assert.rejects(to(NO_STREAM, event()), WrongExpectedVersionError);
  const later = await to(0n, sent.slice(1));
  assert.equal(later.nextExpectedRevision, 2n);
  assert.ok(later.position.commit > first.position.commit);
  assert.deepEqual(await to(0n, sent.slice(1)), later, "once only");
  await to(STREAM_EXISTS, event());
  await to(ANY, event());
  const many = Array.from({ length: 300 }, () => event());
  const chunked = await client.appendToStream(stream, many, { streamState: 4n, batchAppendSize: 2048 });
  assert.equal(chunked.nextExpectedRevision, 304n);
  const beside = await Promise.all(Array.from({ length: 100 }, () => client.appendToStream(stream, event())));
  assert.equal(new Set(beside.map((answer) => answer.nextExpectedRevision)).size, 100);
  // Credentials of its own make the client use the call for one append.
  const single = await client.appendToStream(stream, event(), {
    streamState: 404n,
    credentials: { username: "anyone", password: "owner" },
  });
  assert.equal(single.nextExpectedRevision, 405n);
}

async function reads(client) {
  const stream = name();
  await assert.rejects(collect(client.readStream(stream)), StreamNotFoundError);
  const mark = randomUUID().slice(0, 8);
  const sent = Array.from({ length: 600 }, (_, number) => event(`${mark}Kind${number}`));
  const { position } = await client.appendToStream(stream, sent);
  assert.deepEqual(ids(await collect(client.readStream(stream))), ids(sent));
  const backwards = await collect(client.readStream(stream, { direction: BACKWARDS, fromRevision: END, maxCount: 3 }));
  assert.deepEqual(ids(backwards), ids(sent.slice(-3).reverse()));
  const within = await collect(client.readStream(stream, { direction: FORWARDS, fromRevision: 10n, maxCount: 2 }));
  assert.deepEqual(ids(within), ids(sent.slice(10, 12)));
  const log = await collect(client.readAll({ direction: BACKWARDS, fromPosition: END, maxCount: 5 }));
  assert.deepEqual(ids(log), ids(sent.slice(-5).reverse()));
  assert.equal(log[0].position.commit, position.commit);
  const filtered = client.readAll({
    fromPosition: START,
    filter: eventTypeFilter({ regex: `^${mark}Kind5[0-9]$` }),
  });
  assert.deepEqual(ids(await collect(filtered)), ids(sent.slice(50, 60)));
}

async function subscriptions(client) {
  const stream = name();
  const sent = Array.from({ length: 6 }, () => event());
  const { position } = await client.appendToStream(stream, sent.slice(0, 2));
  const ofStream = take(client.subscribeToStream(stream, { fromRevision: START }), 6);
  const ofLog = take(client.subscribeToAll({ fromPosition: position, filter: excludeSystemEvents() }), 4);
  const picked = take(
    client.subscribeToAll({ fromPosition: START, filter: streamNameFilter({ prefixes: [stream] }) }),
    6
  );
  for (const one of sent.slice(2)) await client.appendToStream(stream, one);
  assert.deepEqual(ids(await ofStream), ids(sent));
  assert.deepEqual(ids(await ofLog), ids(sent.slice(2)));
  assert.deepEqual(ids(await picked), ids(sent));
}

async function removals(client) {
  const stream = name();
  await client.appendToStream(stream, [event(), event()]);
  await assert.rejects(client.deleteStream(stream, { expectedRevision: 0n }), WrongExpectedVersionError);
  const { position } = await client.deleteStream(stream, { expectedRevision: 1n });
  assert.ok(position.commit > 0n);
  await assert.rejects(collect(client.readStream(stream)), StreamNotFoundError);
  const anew = event();
  await client.appendToStream(stream, anew, { streamState: NO_STREAM });
  assert.deepEqual(ids(await collect(client.readStream(stream))), [anew.id]);
  await client.tombstoneStream(stream);
  await assert.rejects(collect(client.readStream(stream)), StreamDeletedError);
  await assert.rejects(client.appendToStream(stream, event()), StreamDeletedError);
}

async function metadata(client) {
  const stream = name();
  const sent = [
    event("A", { metadata: { n: 1.5, of: ["x"] } }),
    binaryEvent({ type: "B", data: Uint8Array.of(0, 255, 1), metadata: Uint8Array.of(254, 255) }),
  ];
  await client.appendToStream(stream, sent);
  const found = await collect(client.readStream(stream));
  assert.deepEqual(found[0].metadata, { n: 1.5, of: ["x"] });
  assert.ok(found[0].isJson && !found[1].isJson);
  assert.deepEqual(Uint8Array.from(found[1].data), Uint8Array.of(0, 255, 1));
  assert.deepEqual(Uint8Array.from(found[1].metadata), Uint8Array.of(254, 255));
  assert.ok(Math.abs(Date.now() - found[0].created.getTime()) < 60_000, `${found[0].created}`);
  await client.setStreamMetadata(stream, { maxCount: 1 });
  assert.equal((await client.getStreamMetadata(stream)).metadata.maxCount, 1);
  assert.deepEqual(ids(await collect(client.readStream(stream))), [sent[1].id]);
}

async function memories(client) {
  const found = await collect(client.readStream("memory-1"));
  assert.deepEqual(found.map((one) => one.type), ["memory.created"]);
  assert.equal(found[0].metadata.truth, 1);
  for (const stream of ["memory-1", "principal-1"]) {
    await assert.rejects(client.appendToStream(stream, event()), AccessDeniedError);
    await assert.rejects(client.deleteStream(stream), AccessDeniedError);
    await assert.rejects(client.tombstoneStream(stream), AccessDeniedError);
  }
}

async function main() {
  const client = KurrentDBClient.connectionString(process.argv[2]);
  for (const check of [appends, reads, subscriptions, removals, metadata, memories]) {
    await check(client);
    console.log("ok", check.name);
  }
  await client.dispose();
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  }
);
