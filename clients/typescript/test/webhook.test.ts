import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Webhook } from "standardwebhooks";

import { InvalidSignatureError, verifyWebhook } from "../src/webhook.js";

interface Vectors {
  now: number;
  cases: { name: string; secret: string; headers: Record<string, string>; body: string; valid: boolean }[];
}

// Compiled to dist/test. `clients/webhooks` records further messages.
const path = process.env["TASKEY_WEBHOOK_VECTORS"] ?? new URL("../../../conformance/webhooks.json", import.meta.url);
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

test("the library of Standard Webhooks agrees with the vectors", (context) => {
  context.mock.timers.enable({ apis: ["Date"], now: vectors.now * 1000 });
  for (const { name, secret, headers, body, valid } of vectors.cases) {
    const verify = (): void => {
      new Webhook(secret).verify(body, headers, { jsonParse: false });
    };
    if (valid) {
      assert.doesNotThrow(verify, name);
    } else {
      assert.throws(verify, name);
    }
  }
});
