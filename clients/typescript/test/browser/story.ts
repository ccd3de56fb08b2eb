/** What the test runs in the browser. It imports the package by its name, as bundlers of applications do. */
import { connect, paginate, TaskeyError, type WatchEvent } from "@taskey/client";

/** Uses a new account, and returns what happened. */
export async function run(url: string) {
  const credentials = { email: `${crypto.randomUUID()}@example.org`, password: "correct horse battery staple" };
  const taskey = connect({ url, credentials });
  await taskey.auth.signUp(credentials);
  const { id } = await taskey.tasks.createTask({ task: { title: "Buy milk" } });
  const titles = [];
  for await (const task of paginate(taskey.tasks.listTasks, { filter: "state = OPEN" })) titles.push(task.title);

  const events: Pick<WatchEvent, "reset" | "checkpoint">[] = [];
  const watched = [];
  for await (const { reset, checkpoint, changes } of taskey.watchTasks()) {
    events.push({ reset, checkpoint });
    watched.push(...changes.map((change) => change.task?.title));
    if (events.length === 1)
      await taskey.tasks.updateTask({ task: { id, title: "Buy bread" }, updateMask: { paths: ["title"] } });
    if (events.length === 2) break;
  }

  const invalid = await failure(taskey.tasks.createTask({ task: { title: "" } }));
  const bearer = connect({ url, credentials: { accessToken: (await taskey.accessToken())! } });
  await bearer.tasks.getTask({ id });
  await taskey.logout();
  const deadline = Date.now() + 2_000;
  let revoked = "";
  while (revoked === "" && Date.now() < deadline) {
    revoked = await bearer.tasks.getTask({ id }).then(
      () => "",
      (error: unknown) => (error as TaskeyError).reason,
    );
  }
  return {
    titles,
    events,
    watched,
    revoked,
    reason: invalid.reason,
    fields: invalid.violations.map(({ field }) => field),
  };
}

async function failure(call: Promise<unknown>): Promise<TaskeyError> {
  const error = await call.catch((cause: unknown) => cause);
  if (error instanceof TaskeyError) return error;
  throw new Error("the call did not fail with a TaskeyError", { cause: error });
}
