import assert from "node:assert/strict";
import { test } from "node:test";
import { Revocations } from "../src/verifier/revocations.js";
import type { Actor, Claims } from "../src/verifier/token.js";

/** Returns revocations whose clocks are set by the test. */
function manual(maxStalenessMs = 30_000, maxSessions?: number) {
  const time = { ms: 1_000_000 };
  const clock = { now: () => 1_800_000_000_000 + time.ms, monotonic: () => time.ms };
  const revocations = new Revocations(maxStalenessMs, clock, maxSessions);
  const check = (sid: string, issuedMsAgo = 0) =>
    revocations.check({ sid, iat: Math.floor((clock.now() - issuedMsAgo) / 1000) } as Claims);
  return { revocations, time, clock, check };
}

test("the state follows the heartbeats", () => {
  const { revocations, time } = manual();
  const states = (ms: number) => {
    time.ms += ms;
    return revocations.state;
  };
  revocations.add([]);
  assert.equal(states(0), "COLD", "heartbeats count only after a snapshot");
  revocations.addSnapshot([]);
  assert.equal(states(0), "COLD", "a snapshot is not a heartbeat");
  revocations.add([]);
  assert.deepEqual(
    [states(0), states(3000), states(1), states(26_999), states(1)],
    ["FRESH", "FRESH", "STALE", "STALE", "EXPIRED"],
  );
  revocations.add([]);
  assert.equal(states(0), "FRESH");
});

test("a snapshot does not remove other revocations", () => {
  const { revocations, check } = manual();
  revocations.addSnapshot(["a"]);
  revocations.add(["B"]);
  revocations.addSnapshot(["c"]);
  assert.deepEqual(
    ["a", "b", "c", "d"].map((sid) => check(sid)),
    ["REVOKED", "REVOKED", "REVOKED", "ACTIVE"],
  );
});

test("a token is revoked with the session of any service that acts for the user", () => {
  const { revocations, clock } = manual();
  revocations.addSnapshot(["a"]);
  revocations.add([]);
  const check = (act: Actor) => revocations.check({ sid: "b", iat: clock.now() / 1000, act } as Claims);
  assert.equal(check({ sub: "s", sid: "a" }), "REVOKED");
  assert.equal(check({ sub: "s", sid: "b", act: { sub: "t", act: { sub: "u", sid: "a" } } }), "REVOKED");
  assert.equal(check({ sub: "s", sid: "b", act: { sub: "t" } }), "ACTIVE");
});

test("a session is forgotten when none of its tokens can be valid", () => {
  const { revocations, time, check } = manual();
  revocations.addSnapshot(["a"]);
  revocations.add([]);
  time.ms += 965_000 - 1;
  revocations.add([]);
  assert.equal(check("a"), "REVOKED");
  time.ms += 60_001;
  revocations.add([]);
  assert.deepEqual([check("a"), revocations.size], ["ACTIVE", 0]);
});

test("too many sessions are replaced by a time", () => {
  const { revocations, time, clock, check } = manual(30_000, 1000);
  revocations.addSnapshot(Array.from({ length: 600 }, (_, index) => `old-${index}`));
  time.ms += 60_000;
  revocations.add(Array.from({ length: 600 }, (_, index) => `new-${index}`));
  assert(revocations.size <= 1000, String(revocations.size));
  assert.equal(check("new-0"), "REVOKED");
  assert.equal(check("old-0", 61_000), "OUTDATED");
  assert.equal(check("other", 61_000), "OUTDATED");
  assert.equal(check("other", 40_000), "ACTIVE");
  revocations.addSnapshot([], clock.now() - 10_000);
  assert.equal(check("other", 40_000), "OUTDATED", "the time of a snapshot");
  revocations.addSnapshot([], clock.now() - 80_000);
  assert.equal(check("other", 40_000), "OUTDATED", "the time never decreases");
});

test("a million revocations fit into the memory", () => {
  const { revocations } = manual();
  const ids = Array.from({ length: 1_000_000 }, (_, index) => {
    const digits = index.toString(16).padStart(12, "0");
    return `01890a5d-ac96-774b-bcce-${digits}`;
  });
  revocations.addSnapshot(ids);
  const { size } = revocations;
  revocations.add(["one more"]);
  assert.deepEqual([size, revocations.size < size], [1_000_000, true]);
});
