/** The client in a browser: headless Chromium, with a page of another origin than that of the gateway. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { chromium } from "playwright-core";
import type { run } from "./browser/story.js";
import { TestServer } from "./support.js";

/** Starts a server of a page whose script is the bundled story. */
async function servePage() {
  const entryPoints = [fileURLToPath(new URL("./browser/story.js", import.meta.url))];
  const { outputFiles } = await build({ entryPoints, bundle: true, globalName: "story", write: false });
  const page = createServer((_, response) => {
    response.setHeader("content-type", "text/html");
    response.end(`<!doctype html><script>${outputFiles[0]!.text}</script>`);
  });
  await once(page.listen(0, "127.0.0.1"), "listening");
  return { page, origin: `http://127.0.0.1:${(page.address() as AddressInfo).port}` };
}

test("a page of another origin signs up, logs in, and calls by gRPC-Web", async (context) => {
  const path = (process.env.PATH ?? "").split(":");
  const executablePath = path.map((folder) => `${folder}/chromium`).find(existsSync);
  assert(executablePath, "chromium is missing: run `.ci/install-tools clients`");
  const { page, origin } = await servePage();
  context.after(() => page.close());
  const server = await TestServer.start("--cors-origin", origin);
  context.after(() => server.remove());
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"], timeout: 60_000 });
  context.after(() => browser.close());
  const tab = await browser.newPage();
  await tab.goto(origin);
  const result = await tab.evaluate<Awaited<ReturnType<typeof run>>>(`story.run("${server.url}")`);
  assert.deepEqual(result, {
    titles: ["Buy milk"],
    events: [
      { reset: true, checkpoint: true },
      { reset: false, checkpoint: true },
    ],
    watched: ["Buy milk", "Buy bread"],
    revoked: "TOKEN_REVOKED",
    reason: "VALIDATION_FAILED",
    fields: ["task.title"],
  });
});
