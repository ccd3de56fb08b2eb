import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { crc32 } from "node:zlib";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { ExchangePersonalAccessTokenResponseSchema } from "../src/gen/taskey/auth/v1/token_service_pb.js";
import { TokenError } from "../src/verifier/error.js";
import { PersonalTokens } from "../src/verifier/personal.js";

const NAMES = { issuer: "taskey", audience: "taskey" };

function newToken(): string {
  const body = `taskey_pat_${randomUUID().replaceAll("-", "")}_${"a".repeat(43)}`;
  return `${body}_${crc32(body).toString(16).padStart(8, "0")}`;
}

/** A server that exchanges every token, and a cache in front of it. */
function exchanges(...networks: string[]) {
  const response = create(ExchangePersonalAccessTokenResponseSchema, {
    sub: randomUUID(),
    sid: randomUUID(),
    jti: randomUUID(),
    scope: "tasks.read tasks.write",
    networks,
    expireTime: timestampFromMs(Date.now() + 3_600_000),
    tokenExpireTime: timestampFromMs(Date.now() + 86_400_000),
  });
  const server = { count: 0, clock: 0, isValid: true, isDown: false };
  const exchange = async () => {
    server.count++;
    await Promise.resolve();
    if (server.isDown) throw TokenError.noExchange();
    return server.isValid ? response : undefined;
  };
  const tokens = new PersonalTokens(exchange, NAMES, () => server.clock, 20, 10);
  const verify = (token: string, client?: string, isCurrent = () => true) => tokens.verify(token, client, isCurrent);
  return { server, tokens, verify };
}

test("a token is exchanged once in five minutes", async () => {
  const { server, verify } = exchanges();
  const token = newToken();
  for (let round = 0; round < 10; round++) {
    const { scopes, isPersonalAccessToken } = await verify(token);
    assert.deepEqual([scopes, isPersonalAccessToken], [["tasks.read", "tasks.write"], true]);
  }
  assert.equal(server.count, 1);
  server.clock += 300_000;
  await verify(token);
  assert.equal(server.count, 2);
});

test("a token that is not current is exchanged again", async () => {
  const { server, verify } = exchanges();
  const token = newToken();
  for (let round = 0; round < 3; round++) await verify(token, undefined, () => false);
  assert.equal(server.count, 3);
});

test("concurrent calls share an exchange", async () => {
  const { server, verify } = exchanges();
  const token = newToken();
  await Promise.all(Array.from({ length: 20 }, () => verify(token)));
  assert.equal(server.count, 1);
});

test("an invalid token is remembered for a minute", async () => {
  const { server, verify } = exchanges();
  const token = newToken();
  server.isValid = false;
  for (let round = 0; round < 5; round++) await assert.rejects(verify(token), { reason: "TOKEN_INVALID" });
  assert.equal(server.count, 1);
  server.clock += 60_000;
  await assert.rejects(verify(token), { reason: "TOKEN_INVALID" });
  assert.equal(server.count, 2);
});

test("a token with a changed character is not exchanged", async () => {
  const { server, verify } = exchanges();
  const token = newToken();
  const changed = Array.from(
    token,
    (c, index) => token.slice(0, index) + (c === "c" ? "b" : "c") + token.slice(index + 1),
  );
  for (const text of [...changed, "taskey_pat_", `${token}0`, token.slice(0, -1), `${token}\n`, ` ${token}`]) {
    await assert.rejects(verify(text), { reason: "TOKEN_INVALID" }, text);
  }
  assert.equal(server.count, 0);
});

test("a token is limited to its networks", async () => {
  const { verify } = exchanges("192.0.2.0/24", "2001:db8::/32");
  const token = newToken();
  for (const address of ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1"]) await verify(token, address);
  for (const address of ["192.0.3.1", "127.0.0.1", "", "x", undefined]) {
    await assert.rejects(verify(token, address), { reason: "TOKEN_INVALID" }, address);
  }
});

test("an exchange that fails is unavailable and not remembered", async () => {
  const { server, verify } = exchanges();
  const token = newToken();
  server.isDown = true;
  await assert.rejects(verify(token), { reason: "VERIFIER_NOT_READY", retryAfter: 1 });
  server.isDown = false;
  await verify(token);
});

test("the number of remembered tokens is limited", async () => {
  const { server, tokens, verify } = exchanges();
  await Promise.all(Array.from({ length: 50 }, () => verify(newToken())));
  server.isValid = false;
  await Promise.all(Array.from({ length: 50 }, () => assert.rejects(verify(newToken()))));
  assert.deepEqual(tokens.sizes, [20, 10]);
});

test("unknown tokens of a client cause few exchanges", async () => {
  const { server, verify } = exchanges();
  const known = newToken();
  await verify(known, "192.0.2.1");
  server.isValid = false;
  for (let index = 0; index < 200; index++) {
    const reason = index < 99 ? "TOKEN_INVALID" : "RATE_LIMITED";
    await assert.rejects(verify(newToken(), "192.0.2.1"), { reason });
  }
  assert.equal(server.count, 100);
  // Neither its other tokens nor other clients are affected.
  await verify(known, "192.0.2.1");
  await assert.rejects(verify(newToken(), "192.0.2.2"), { reason: "TOKEN_INVALID" });
});
