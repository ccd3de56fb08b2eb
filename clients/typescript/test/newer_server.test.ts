/** Behaviour that the real server does not show on demand: errors, unknown values, and GOAWAY. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Http2Session } from "node:http2";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createRouterTransport, type ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { createTaskey } from "../src/client.js";
import { ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { AuthService, TokenPairSchema } from "../src/gen/taskey/auth/v1/auth_service_pb.js";
import { TaskSchema } from "../src/gen/taskey/task/v1/task_pb.js";
import { TaskService } from "../src/gen/taskey/task/v1/task_service_pb.js";
import { connect, TaskeyError } from "../src/node.js";
import { PASSWORD } from "./support.js";

function failure(code: Code, reason: string, retryMs?: number, pushback?: string): ConnectError {
  const headers = pushback === undefined ? undefined : { "grpc-retry-pushback-ms": pushback };
  const error = new ConnectError(reason, code, headers);
  error.details.push({ desc: ErrorInfoSchema, value: { reason, domain: "taskey" } });
  if (retryMs !== undefined) {
    error.details.push({ desc: RetryInfoSchema, value: { retryDelay: { nanos: retryMs * 1e6 } } });
  }
  return error;
}

/** Returns a client of a server that returns these results, and then succeeds, and the requests that it received. */
function failing(...errors: (ConnectError | undefined)[]) {
  const requestIds: string[] = [];
  const fail = () => {
    const error = errors.shift();
    if (error) throw error;
    return {};
  };
  const transport = createRouterTransport(({ service }) => {
    service(TaskService, {
      getTask: () => (requestIds.push(""), fail()),
      createTask: (request) => (requestIds.push(request.requestId), fail()),
    });
    service(AuthService, { signUp: () => (requestIds.push(""), fail()) });
  });
  return { taskey: createTaskey(transport), requestIds };
}

const unavailable = () => failure(Code.Unavailable, "STORE_UNAVAILABLE");

test("reads and writes with a request_id are tried three times", async () => {
  const read = failing(unavailable(), unavailable());
  await read.taskey.tasks.getTask({});
  assert.equal(read.requestIds.length, 3);
  const write = failing(unavailable(), unavailable(), unavailable());
  await assert.rejects(write.taskey.tasks.createTask({}), /STORE_UNAVAILABLE/);
  assert.deepEqual([write.requestIds.length, new Set(write.requestIds).size], [3, 1]);
  assert.match(write.requestIds[0]!, /^[0-9a-f-]{36}$/);
});

test("other calls and other errors are not repeated", async () => {
  const signUp = failing(unavailable());
  await assert.rejects(signUp.taskey.auth.signUp({}), /STORE_UNAVAILABLE/);
  assert.equal(signUp.requestIds.length, 1);
  for (const error of [
    failure(Code.ResourceExhausted, "QUOTA_EXCEEDED"),
    failure(Code.Internal, "INTERNAL"),
    failure(Code.DeadlineExceeded, "DEADLINE_EXCEEDED"),
    failure(Code.Unavailable, "OVERLOADED", 1, "-1"),
    failure(Code.Unavailable, "OVERLOADED", 1, "soon"),
  ]) {
    const read = failing(error);
    const { code } = error;
    await assert.rejects(read.taskey.tasks.getTask({}), (error) => error instanceof TaskeyError && error.code === code);
    assert.equal(read.requestIds.length, 1, error.message);
  }
});

test("retries stop while most calls fail, and resume after enough calls have succeeded", async () => {
  const results = [...Array<true>(13).fill(true), ...Array<false>(61).fill(false), true];
  const overload = () => failure(Code.Unavailable, "OVERLOADED", 1);
  const { taskey, requestIds } = failing(...results.map((fails) => (fails ? overload() : undefined)));
  const attempts = [];
  for (let call = 0; call < 10; call++) {
    const before = requestIds.length;
    await assert.rejects(taskey.tasks.getTask({}), /OVERLOADED/);
    attempts.push(requestIds.length - before);
  }
  // There are 10 tokens at first. Each failed attempt costs one, and more than 5 must be left for a retry.
  assert.deepEqual(attempts, [3, 2, 1, 1, 1, 1, 1, 1, 1, 1]);
  for (let call = 0; call < 61; call++) await taskey.tasks.getTask({});
  await taskey.tasks.getTask({});
  assert.equal(requestIds.length, 13 + 61 + 2);
});

test("RetryInfo and pushback set the delay, if it fits into the deadline", async () => {
  const begin = performance.now();
  await failing(failure(Code.ResourceExhausted, "RATE_LIMITED", 300)).taskey.tasks.getTask({});
  await failing(failure(Code.Unavailable, "OVERLOADED", 1, "300")).taskey.tasks.getTask({});
  assert(performance.now() - begin >= 600);
  const late = failing(failure(Code.ResourceExhausted, "RATE_LIMITED", 900));
  await assert.rejects(late.taskey.tasks.getTask({}, { timeoutMs: 500 }), (error) => {
    assert(error instanceof TaskeyError);
    assert.deepEqual([error.code, error.reason, error.retryAfterMs], [Code.ResourceExhausted, "RATE_LIMITED", 900]);
    return true;
  });
  assert(performance.now() - begin < 1000);
});

test("unknown fields and enum values are kept", async () => {
  const unknown = { no: 4711, wireType: WireType.Varint, data: new Uint8Array([1]) };
  const newer = Object.assign(create(TaskSchema, { title: "A" }), { state: 99, $unknown: [unknown] });
  const { url, close } = await startServer(({ rpc }) => rpc(TaskService.method.getTask, () => newer));
  const taskey = connect({ url });
  const task = await taskey.tasks.getTask({ id: "x" });
  assert.deepEqual([task.title, task.state, task.$unknown?.map((field) => field.no)], ["A", 99, [4711]]);
  taskey.close();
  close();
});

test("a watch resumes after GOAWAY, and starts again when its sync token has expired", async () => {
  const received: string[] = [];
  const { url, sessions, close } = await startServer(({ rpc }) =>
    rpc(TaskService.method.watchTasks, async function* ({ syncToken }, { signal }) {
      received.push(syncToken);
      if (syncToken === "2") throw failure(Code.OutOfRange, "SYNC_TOKEN_EXPIRED");
      yield { syncToken: String(received.length), checkpoint: true };
      await once(signal, "abort");
    }),
  );
  const taskey = connect({ url });
  const stop = new AbortController();
  const resets = [];
  for await (const event of taskey.watchTasks({ syncToken: "0", signal: stop.signal })) {
    resets.push(event.reset);
    if (resets.length === 3) break;
    for (const session of sessions) {
      session.goaway();
      session.close();
      setTimeout(() => session.destroy(), 100);
    }
    sessions.clear();
  }
  assert.deepEqual(received, ["0", "1", "2", ""]);
  assert.deepEqual(resets, [false, false, true]);
  taskey.close();
  close();
});

test("a superseded refresh token is tried again later, and a reused one ends the session", async () => {
  const outcomes = [
    failure(Code.Aborted, "REFRESH_TOKEN_SUPERSEDED"),
    undefined,
    failure(Code.Unauthenticated, "REFRESH_TOKEN_REUSED"),
  ];
  const refreshTokens: string[] = [];
  let logins = 0;
  const pair = (refreshToken: string) => ({
    accessToken: "expired",
    refreshToken,
    accessLifetime: {},
    refreshLifetime: { seconds: 1000n },
  });
  const transport = createRouterTransport(({ service }) => {
    service(AuthService, {
      login: () => (logins++, pair("first")),
      refresh: ({ refreshToken }) => {
        refreshTokens.push(refreshToken);
        const outcome = outcomes.shift();
        if (outcome) throw outcome;
        return pair("second");
      },
    });
    service(TaskService, { getTask: () => ({}) });
  });
  const taskey = createTaskey(transport, { email: "ann@example.org", password: PASSWORD });
  await taskey.tasks.getTask({});
  await taskey.tasks.getTask({});
  for (let call = 0; call < 2; call++) {
    await assert.rejects(
      taskey.tasks.getTask({}),
      (error) => error instanceof TaskeyError && error.reason === "REFRESH_TOKEN_REUSED",
    );
  }
  assert.deepEqual([refreshTokens, logins], [["first", "first", "second"], 1]);
});

/** Returns how often a client logs in and refreshes during two calls, if each token pair has these members. */
async function renewals(pair: MessageInitShape<typeof TokenPairSchema>) {
  const count = { logins: 0, refreshes: 0 };
  const transport = createRouterTransport(({ service }) => {
    service(AuthService, {
      login: () => (count.logins++, { ...pair, accessToken: "token" }),
      refresh: () => (count.refreshes++, { ...pair, accessToken: "token" }),
    });
    service(TaskService, { getTask: () => ({}) });
  });
  const taskey = createTaskey(transport, { email: "ann@example.org", password: PASSWORD });
  await taskey.tasks.getTask({});
  await taskey.tasks.getTask({});
  return count;
}

test("tokens are renewed by their lifetimes, although the clock is wrong", async () => {
  const lifetimes = (access: bigint, refresh: bigint) => ({
    accessLifetime: { seconds: access },
    refreshLifetime: { seconds: refresh },
  });
  const [past, future] = [-3_600_000, 3_600_000].map((offset) => timestampFromMs(Date.now() + offset));
  for (const expireTime of [past, future]) {
    const times = { accessExpireTime: expireTime, refreshExpireTime: expireTime };
    assert.deepEqual(await renewals({ ...times, ...lifetimes(300n, 600n) }), { logins: 1, refreshes: 0 });
    assert.deepEqual(await renewals({ ...times, ...lifetimes(0n, 600n) }), { logins: 1, refreshes: 1 });
    assert.deepEqual(await renewals({ ...times, ...lifetimes(0n, 0n) }), { logins: 2, refreshes: 0 });
  }
  // An older server sends no lifetimes.
  assert.deepEqual(await renewals({ accessExpireTime: future!, refreshExpireTime: future! }), {
    logins: 1,
    refreshes: 0,
  });
  assert.deepEqual(await renewals({ accessExpireTime: past!, refreshExpireTime: future! }), {
    logins: 1,
    refreshes: 1,
  });
  assert.deepEqual(await renewals({ accessExpireTime: past!, refreshExpireTime: past! }), { logins: 2, refreshes: 0 });
});

async function startServer(routes: (router: ConnectRouter) => unknown) {
  const server = createServer(connectNodeAdapter({ routes: (router) => void routes(router) }));
  const sessions = new Set<Http2Session>();
  server.on("session", (session) => sessions.add(session));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, sessions, close: () => server.close() };
}
