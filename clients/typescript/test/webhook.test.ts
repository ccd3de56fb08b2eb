import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { InvalidSignatureError, verifyWebhook } from "../src/webhook.js";

interface Vectors {
  now: number;
  cases: { name: string; secret: string; headers: Record<string, string>; body: string; valid: boolean }[];
}

// Compiled to dist/test.
const path = new URL("../../../conformance/webhooks.json", import.meta.url);
const vectors = JSON.parse(readFileSync(path, "utf8")) as Vectors;

test("messages of webhooks are verified like the vectors", () => {
  assert.ok(vectors.cases.length > 0);
  for (const { name, secret, headers, body, valid } of vectors.cases) {
    const verify = (): void => {
      verifyWebhook(secret, headers, body, vectors.now * 1000);
    };
    if (valid) {
      assert.doesNotThrow(verify, name);
    } else {
      assert.throws(verify, InvalidSignatureError, name);
    }
  }
});
