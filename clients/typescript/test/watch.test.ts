import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Code, connect, TaskeyError, type Taskey, type WatchEvent } from "../src/node.js";
import { delay, FaultProxy, TestServer } from "./support.js";

let server: TestServer;

before(async () => {
  server = await TestServer.start("--access-token-ttl", "4s");
});
after(() => server.remove());

/** Collects the titles of a watch in the background. */
class Copy {
  readonly titles = new Map<string, string>();
  readonly events: WatchEvent[] = [];
  readonly stop = new AbortController();
  readonly ended: Promise<unknown>;

  constructor(taskey: Taskey, syncToken?: string) {
    this.ended = this.#follow(taskey, syncToken).catch((error: unknown) => error);
  }

  async #follow(taskey: Taskey, syncToken?: string): Promise<void> {
    for await (const event of taskey.watchTasks({ syncToken, signal: this.stop.signal })) {
      if (event.reset) this.titles.clear();
      for (const { id, task, removed } of event.changes) {
        if (task && !removed) this.titles.set(id, task.title);
        else this.titles.delete(id);
      }
      this.events.push(event);
    }
  }

  async contains(title: string): Promise<void> {
    for (let waited = 0; ![...this.titles.values()].includes(title); waited += 20) {
      assert(waited < 15_000, `${title} did not arrive`);
      await delay(20);
    }
  }
}

test("a watch resumes after a cut, a restart and the expiry of its token", async () => {
  const proxy = await FaultProxy.start(server.gateway);
  const taskey = await server.client(proxy.url);
  const copy = new Copy(taskey);
  const create = (title: string) => taskey.tasks.createTask({ task: { title } });
  await create("first");
  await copy.contains("first");
  proxy.cut();
  await create("after a cut");
  await copy.contains("after a cut");
  await server.stop("SIGTERM");
  await server.start();
  await create("after a restart");
  await copy.contains("after a restart");
  await server.stop("SIGKILL");
  await server.start();
  await create("after a crash");
  await copy.contains("after a crash");
  await delay(10_000);
  await create("after the expiry");
  await copy.contains("after the expiry");
  assert.equal(copy.events.filter((event) => event.reset).length, 1);
  copy.stop.abort();
  const error = await copy.ended;
  assert(error instanceof TaskeyError && error.code === Code.Canceled);
  taskey.close();
  proxy.stop();
});

test("a watch notices a half-open connection", { timeout: 60_000 }, async () => {
  const proxy = await FaultProxy.start(server.gateway);
  const taskey = await server.client(proxy.url);
  const copy = new Copy(taskey);
  await taskey.tasks.createTask({ task: { title: "first" } });
  await copy.contains("first");
  proxy.mode = "hold";
  const begin = proxy.connections;
  for (let waited = 0; proxy.connections === begin; waited += 50) {
    assert(waited < 40_000);
    await delay(50);
  }
  proxy.mode = "forward";
  proxy.cut();
  await taskey.tasks.createTask({ task: { title: "second" } });
  await copy.contains("second");
  copy.stop.abort();
  await copy.ended;
  taskey.close();
  proxy.stop();
});

test("an invalid sync token and a revoked session end the watch", async () => {
  const credentials = await server.signUp();
  const taskey = connect({ url: server.url, credentials });
  const invalid = new Copy(taskey, "invalid");
  const error = await invalid.ended;
  assert(error instanceof TaskeyError && error.reason === "SYNC_TOKEN_INVALID", String(error));
  const copy = new Copy(taskey);
  await taskey.tasks.createTask({ task: { title: "first" } });
  await copy.contains("first");
  await taskey.account.revokeAllSessions({});
  const revoked = await copy.ended;
  assert(revoked instanceof TaskeyError && revoked.reason === "TOKEN_REVOKED", String(revoked));
  taskey.close();
});

test("a watch can be stopped by leaving the loop", async () => {
  const taskey = await server.client();
  for (let round = 0; round < 12; round++) {
    for await (const event of taskey.watchTasks()) {
      assert(event.reset);
      break;
    }
  }
  taskey.close();
});
