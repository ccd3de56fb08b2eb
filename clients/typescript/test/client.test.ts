import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createClient, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { createTaskey } from "../src/client.js";
import { Task_State } from "../src/gen/taskey/task/v1/task_pb.js";
import { TaskService } from "../src/gen/taskey/task/v1/task_service_pb.js";
import { Code, connect, paginate, TaskeyError } from "../src/node.js";
import { delay, FaultProxy, PASSWORD, TestServer } from "./support.js";

let server: TestServer;

before(async () => {
  server = await TestServer.start("--access-token-ttl", "3s");
});
after(() => server.remove());

/** Asserts that a call fails with this code and reason, and returns the error. */
async function assertFails(call: Promise<unknown>, code: Code, reason: string): Promise<TaskeyError> {
  const error = await call.then(
    () => assert.fail("the call succeeded"),
    (cause: unknown) => cause,
  );
  assert(error instanceof TaskeyError, String(error));
  assert.deepEqual([Code[error.code], error.reason], [Code[code], reason], error.message);
  return error;
}

/** Returns a transport to the server that counts the calls of each method. */
function countingTransport(url: string): { transport: Transport; calls: Map<string, number> } {
  const calls = new Map<string, number>();
  const inner = createGrpcTransport({ baseUrl: url });
  const transport: Transport = {
    unary(method, ...rest) {
      calls.set(method.name, (calls.get(method.name) ?? 0) + 1);
      return inner.unary(method, ...rest);
    },
    stream: (...parameters) => inner.stream(...parameters),
  };
  return { transport, calls };
}

test("the story from sign-up to the refused token", async () => {
  const email = `${crypto.randomUUID()}@example.org`;
  const taskey = server.connect({ email, password: PASSWORD });
  const user = await taskey.auth.signUp({ email, password: PASSWORD });
  const created = await taskey.tasks.createTask({ task: { title: "Buy milk" } });
  assert.equal(created.ownerId, user.id);
  const completed = await taskey.tasks.completeTask({ id: created.id });
  assert.equal(completed.state, Task_State.COMPLETED);
  const titles = [];
  for await (const task of paginate(taskey.tasks.listTasks, {})) titles.push(task.title);
  assert.deepEqual(titles, ["Buy milk"]);
  const token = await taskey.accessToken();
  assert(token);
  const bearer = server.connect({ accessToken: token });
  await bearer.tasks.getTask({ id: created.id });
  await taskey.logout();
  await delay(1000);
  await assertFails(bearer.tasks.getTask({ id: created.id }), Code.Unauthenticated, "TOKEN_REVOKED");
  // A client with a password logs in again.
  await taskey.tasks.getTask({ id: created.id });
  taskey.close();
  bearer.close();
});

test("concurrent calls with an expired token refresh once", async () => {
  const { transport, calls } = countingTransport(server.url);
  const taskey = createTaskey(transport, await server.signUp());
  await Promise.all(Array.from({ length: 50 }, () => taskey.tasks.listTasks({})));
  assert.equal(calls.get("Login"), 1);
  await delay(9000); // The lifetime and the leeway.
  await Promise.all(Array.from({ length: 50 }, () => taskey.tasks.listTasks({})));
  assert.deepEqual([calls.get("Login"), calls.get("Refresh")], [1, 1]);
});

test("a token that the server refuses as expired is refreshed once", async () => {
  const { transport, calls } = countingTransport(server.url);
  const taskey = createTaskey(transport, await server.signUp());
  await taskey.tasks.listTasks({});
  const expired = new Set<string | null>();
  const unary = transport.unary.bind(transport);
  transport.unary = async (method, signal, timeoutMs, header, input, contextValues) => {
    const token = new Headers(header).get("authorization");
    if (method.name === "GetMe" && (expired.size === 0 || expired.has(token))) {
      expired.add(token);
      const headers = { authorization: "Bearer e30.e30.e30" };
      return unary(method, signal, timeoutMs, headers, input, contextValues).catch(() => {
        throw expiredError();
      });
    }
    return unary(method, signal, timeoutMs, header, input, contextValues);
  };
  await Promise.all(Array.from({ length: 50 }, () => taskey.account.getMe({})));
  assert.equal(calls.get("Refresh"), 1);
});

function expiredError(): TaskeyError {
  const error = TaskeyError.from(new Error());
  return Object.assign(error, { code: Code.Unauthenticated, reason: "TOKEN_EXPIRED" });
}

test("a lost answer to a refresh does not lose the session", async () => {
  const proxy = await FaultProxy.start(server.gateway);
  const taskey = await server.client(proxy.url);
  const { id } = await taskey.account.getMe({});
  for (let round = 0; round < 3; round++) {
    await delay(3000);
    const me = await proxy.loseAnswer(() => taskey.account.getMe({}));
    assert.equal(me.id, id);
  }
  assert.equal((await taskey.account.listSessions({})).sessions.length, 1);
  taskey.close();
  proxy.stop();
});

test("a revoked session is reported and not replaced", async () => {
  const credentials = await server.signUp();
  const taskey = server.connect(credentials);
  await taskey.account.revokeAllSessions({});
  await assertFails(taskey.account.getMe({}), Code.Unauthenticated, "TOKEN_REVOKED");
  await delay(3000);
  await assertFails(taskey.account.getMe({}), Code.Unauthenticated, "REFRESH_TOKEN_INVALID");
  await assertFails(taskey.account.getMe({}), Code.Unauthenticated, "REFRESH_TOKEN_INVALID");
  taskey.close();
});

test("a write whose answer is lost is executed once", async () => {
  const proxy = await FaultProxy.start(server.gateway);
  const taskey = await server.client(proxy.url);
  await taskey.account.getMe({});
  const task = await proxy.loseAnswer(() => taskey.tasks.createTask({ task: { title: "Once" } }));
  const titles = [];
  for await (const { title } of paginate(taskey.tasks.listTasks, {})) titles.push(title);
  assert.deepEqual([task.title, titles], ["Once", ["Once"]]);
  taskey.close();
  proxy.stop();
});

test("a cut connection is replaced", async () => {
  const proxy = await FaultProxy.start(server.gateway);
  const taskey = await server.client(proxy.url);
  for (let round = 0; round < 5; round++) {
    await taskey.account.getMe({});
    proxy.cut();
  }
  taskey.close();
  proxy.stop();
});

test("a server that cannot be reached is UNAVAILABLE", async () => {
  const taskey = connect({ url: "http://127.0.0.1:1", credentials: { accessToken: "x" } });
  const error = await assertFails(taskey.account.getMe({}), Code.Unavailable, "");
  assert.match(error.message, /ECONNREFUSED/);
  taskey.close();
});

test("the default deadline of a call applies while the connection is half-open", async () => {
  const proxy = await FaultProxy.start(server.gateway);
  const taskey = await server.client(proxy.url);
  await taskey.account.getMe({});
  proxy.mode = "hold";
  const begin = Date.now();
  await assertFails(taskey.account.getMe({}, { timeoutMs: 500 }), Code.DeadlineExceeded, "");
  await assertFails(taskey.account.getMe({}, { signal: AbortSignal.timeout(100) }), Code.Canceled, "");
  assert(Date.now() - begin < 2000);
  const [result] = await Promise.allSettled([taskey.tasks.listTasks({})]);
  assert.equal(result.status, "rejected");
  assert(Math.abs(Date.now() - begin - 10_600) < 1500, `${Date.now() - begin} ms`);
  taskey.close();
  proxy.stop();
});

test("cancellation ends a call", async () => {
  const proxy = await FaultProxy.start(server.gateway);
  const taskey = await server.client(proxy.url);
  await taskey.account.getMe({});
  proxy.mode = "hold";
  const abort = new AbortController();
  const call = taskey.tasks.listTasks({}, { signal: abort.signal });
  setTimeout(() => abort.abort(), 100);
  await assertFails(call, Code.Canceled, "");
  await assertFails(taskey.tasks.listTasks({}, { signal: abort.signal }), Code.Canceled, "");
  taskey.close();
  proxy.stop();
});

test("errors carry their details", async () => {
  const taskey = await server.client();
  const invalid = await assertFails(
    taskey.tasks.createTask({ task: { title: "", labels: [""] } }),
    Code.InvalidArgument,
    "VALIDATION_FAILED",
  );
  assert.deepEqual(invalid.violations.map((violation) => violation.field).sort(), ["task.labels", "task.title"]);
  assert.match(invalid.requestId, /^[0-9a-f-]{36}$/);
  assert.equal(invalid.retryAfterMs, undefined);
  await assertFails(taskey.tasks.getTask({ id: crypto.randomUUID() }), Code.NotFound, "TASK_NOT_FOUND");
  const wrong = server.connect({ email: "nobody@example.org", password: PASSWORD });
  await assertFails(wrong.account.getMe({}), Code.Unauthenticated, "CREDENTIALS_INVALID");
  await assertFails(server.connect().account.getMe({}), Code.Unauthenticated, "TOKEN_MISSING");
  // A ConnectError is not a TaskeyError, although both have the same members.
  const plain = createClient(TaskService, createGrpcTransport({ baseUrl: server.url }));
  const error: unknown = await plain.listTasks({}).catch((cause: unknown) => cause);
  assert(!(error instanceof TaskeyError));
  taskey.close();
});

test("a used request_id is kept, and an empty one is replaced for each call", async () => {
  const taskey = await server.client();
  const requestId = crypto.randomUUID();
  const request = { task: { title: "A" }, requestId };
  const first = await taskey.tasks.createTask(request);
  assert.equal((await taskey.tasks.createTask(request)).id, first.id);
  await assertFails(
    taskey.tasks.createTask({ ...request, task: { title: "B" } }),
    Code.FailedPrecondition,
    "REQUEST_ID_REUSED",
  );
  const other = await taskey.tasks.createTask({ task: { title: "A" } });
  assert.notEqual(other.id, first.id);
  taskey.close();
});

test("lists are iterated over all pages", async () => {
  const taskey = await server.client();
  for (let batch = 0; batch < 6; batch++) {
    const writes = Array.from({ length: 100 }, (_, index) => ({
      write: { case: "create", value: { task: { title: `Task ${batch}-${index}`, notes: "n".repeat(1000) } } } as const,
    }));
    await taskey.tasks.batchWriteTasks({ writes });
  }
  const ids = new Set<string>();
  for await (const task of paginate(taskey.tasks.listTasks, { pageSize: 70 })) ids.add(task.id);
  assert.equal(ids.size, 600);
  const sessions = [];
  for await (const session of paginate(taskey.account.listSessions, {})) sessions.push(session);
  assert.equal(sessions.length, 1);
  taskey.close();
});
