import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { importKeys, TokenError, verifyToken } from "../src/verifier/index.js";

interface Vectors {
  issuer: string;
  audience: string;
  now: number;
  keys: object;
  vectors: { name: string; token: string; claims?: object; reason?: string }[];
}

test("the vectors of the conformance suite have the expected results", async () => {
  const file = new URL("../../../conformance/vectors.json", import.meta.url);
  const { now, keys, vectors, ...names } = JSON.parse(readFileSync(file, "utf8")) as Vectors;
  const keySet = await importKeys(keys, now * 1000);
  for (const { name, token, claims, reason } of vectors) {
    const result = await verifyToken(keySet, names, token, now * 1000).then(
      ({ scopes, ...others }) => ({ claims: scopes ? { ...others, scope: scopes.join(" ") } : others }),
      (error: unknown) => ({ reason: error instanceof TokenError ? error.reason : String(error) }),
    );
    const expected = reason ? { reason } : { claims: { iss: names.issuer, aud: names.audience, ...claims } };
    assert.deepEqual(result, expected, name);
  }
});
