import assert from "node:assert/strict";
import { test } from "node:test";
import { Code } from "@connectrpc/connect";
import { TokenError } from "../src/verifier/error.js";
import { countedAs, ExchangeLimit, MAX_CLIENTS } from "../src/verifier/rate-limit.js";

/** Counts exchanges until one is refused, and returns the number of those that were permitted, and the error. */
function permitted(limit: ExchangeLimit, client: string): [number, TokenError] {
  for (let count = 0; ; count++) {
    try {
      limit.check(client);
    } catch (error) {
      assert.ok(error instanceof TokenError);
      return [count, error];
    }
  }
}

test("the exchanges of a client are limited", () => {
  let now = 1000;
  const limit = new ExchangeLimit(() => now);
  const [count, error] = permitted(limit, "192.0.2.1");
  assert.deepEqual([count, error.reason, error.retryAfter], [100, "RATE_LIMITED", 0.2]);
  assert.equal(error.toConnectError().code, Code.ResourceExhausted);
  const { status, headers } = error.toHttp();
  assert.deepEqual([status, headers], [429, { "retry-after": "1" }]);
  now += 1000;
  assert.equal(permitted(limit, "192.0.2.1")[0], 5);
  limit.check("192.0.2.2");
  limit.check("");
  now += 60_000;
  assert.equal(permitted(limit, "192.0.2.1")[0], 100);
});

test("an IPv6 network is one client", () => {
  const expected = {
    "2001:db8::1": "2001:db8:0:0",
    "2001:0DB8::ffff:0:1": "2001:db8:0:0",
    "2001:db8:0:1::1": "2001:db8:0:1",
    "2001:db8:1:2:3:4:5:6": "2001:db8:1:2",
    "::1": "0:0:0:0",
    "fe80::1%eth0": "fe80:0:0:0",
    "64:ff9b::192.0.2.1": "64:ff9b:0:0",
    "::ffff:192.0.2.1": "192.0.2.1",
    "192.0.2.1": "192.0.2.1",
    "": "",
  };
  for (const [client, key] of Object.entries(expected)) assert.equal(countedAs(client), key, client);
});

test("few clients are counted", () => {
  const limit = new ExchangeLimit(() => 0);
  for (let index = 0; index < 2 * MAX_CLIENTS; index++) limit.check(`10.0.${index >> 8}.${index & 255}`);
  assert.equal(limit.size, MAX_CLIENTS);
});
