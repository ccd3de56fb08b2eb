/** The scenario from sign-up to the refused token, by a client that is generated from the OpenAPI document. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect, reasonOf, type Schemas } from "./client.js";

const url = process.env.TASKEY_URL;
assert(url, "set TASKEY_URL to the address of a gateway");

const email = `${crypto.randomUUID()}@example.org`;
const password = "correct horse battery staple";

/** Asserts that a call has failed with this HTTP code and reason. */
function assertFailed(result: { error?: Schemas["Error"]; response: Response }, code: number, reason: string): void {
  assert(result.error, `the call succeeded, but should have failed with ${reason}`);
  assert.deepEqual([result.response.status, reasonOf(result.error)], [code, reason]);
}

/** Returns the data of a call that has succeeded. */
function dataOf<T>({ data, error }: { data?: T; error?: Schemas["Error"] }): T {
  assert(data !== undefined, JSON.stringify(error));
  return data;
}

test("from sign-up to the refused token", async () => {
  const anyone = connect(url);
  const user = dataOf(await anyone.POST("/v1/auth/signup", { body: { email, password } }));
  assertFailed(await anyone.POST("/v1/auth/signup", { body: { email, password } }), 409, "EMAIL_TAKEN");
  assertFailed(await anyone.GET("/v1/me"), 401, "TOKEN_MISSING");
  const wrong = await anyone.POST("/v1/auth/login", { body: { email, password: "not this one at all" } });
  assertFailed(wrong, 401, "CREDENTIALS_INVALID");
  const tokens = dataOf(await anyone.POST("/v1/auth/login", { body: { email, password } }));

  const taskey = connect(url, tokens.accessToken);
  assert.equal(dataOf(await taskey.GET("/v1/me")).id, user.id);

  const params = { header: { "Idempotency-Key": crypto.randomUUID() } };
  const body = { title: "Buy milk", priority: "PRIORITY_HIGH", dueDate: "2030-05-01" } as const;
  const first = await taskey.POST("/v1/tasks", { params, body });
  const second = await taskey.POST("/v1/tasks", { params, body });
  const task = dataOf(first);
  assert.deepEqual(task, dataOf(second));
  assert.equal(second.response.headers.get("idempotent-replayed"), "true");

  const { id, etag } = task;
  const path = { id };
  const update = { params: { path, header: { "If-Match": etag } }, body: { notes: "Two litres" } };
  const changed = dataOf(await taskey.PATCH("/v1/tasks/{id}", update));
  assert.deepEqual([changed.title, changed.notes, changed.dueDate], ["Buy milk", "Two litres", "2030-05-01"]);
  assertFailed(await taskey.PATCH("/v1/tasks/{id}", update), 412, "ETAG_MISMATCH");
  const completed = dataOf(await taskey.POST("/v1/tasks/{id}:complete", { params: { path }, body: {} }));
  assert.equal(completed.state, "STATE_COMPLETED");

  const invalid = await taskey.POST("/v1/tasks", { body: { title: "" } });
  assertFailed(invalid, 400, "VALIDATION_FAILED");
  const missing = await taskey.GET("/v1/tasks/{id}", { params: { path: { id: crypto.randomUUID() } } });
  assertFailed(missing, 404, "TASK_NOT_FOUND");

  for (let count = 0; count < 5; count++) dataOf(await taskey.POST("/v1/tasks", { body: { title: `Task ${count}` } }));
  const titles: string[] = [];
  for (let pageToken: string | undefined = ""; pageToken !== undefined;) {
    const query: { pageSize: number; pageToken: string; filter: string } = {
      pageSize: 2,
      pageToken,
      filter: "state = OPEN",
    };
    const page: Schemas["ListTasksResponse"] = dataOf(await taskey.GET("/v1/tasks", { params: { query } }));
    titles.push(...(page.tasks ?? []).map((task) => task.title));
    pageToken = page.nextPageToken || undefined;
  }
  assert.deepEqual(titles, ["Task 4", "Task 3", "Task 2", "Task 1", "Task 0"]);

  const refreshed = dataOf(await anyone.POST("/v1/auth/refresh", { body: { refreshToken: tokens.refreshToken } }));
  const again = connect(url, refreshed.accessToken);
  const logout = { refreshToken: refreshed.refreshToken, waitForVerifiers: true };
  assert(dataOf(await anyone.POST("/v1/auth/logout", { body: logout })));
  assertFailed(await again.GET("/v1/tasks/{id}", { params: { path } }), 401, "TOKEN_REVOKED");
  assertFailed(await taskey.GET("/v1/me"), 401, "TOKEN_REVOKED");
});
