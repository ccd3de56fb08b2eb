import { Code, type Client } from "@connectrpc/connect";
import { TaskeyError } from "./errors.js";
import type { TaskChange, TaskListChange, TaskService } from "./gen/taskey/task/v1/task_service_pb.js";
import { backoffMs, sleep } from "./policy.js";

/** How long a stream is used: browsers have no other way to notice a half-open connection. */
const MAX_STREAM_AGE_MS = 240_000;
/** Errors after which a new stream cannot succeed. */
const FINAL = [Code.InvalidArgument, Code.NotFound, Code.PermissionDenied, Code.Unimplemented, Code.Unauthenticated];

/** An event of a watch. */
export interface WatchEvent {
  /** Whether a full synchronization begins. Empty the local copy before you apply the changes. */
  reset: boolean;
  /** The changes to tasks, in the order in which they happened. */
  changes: TaskChange[];
  /** The changes to lists, in the order in which they happened. */
  listChanges: TaskListChange[];
  /** Store it together with the changes: a new watch continues after them. */
  syncToken: string;
  /** Whether all changes so far have been received. */
  checkpoint: boolean;
}

/**
 * Watches the tasks and lists, and resumes when the stream or the connection breaks, the token expires or the server restarts.
 * If the sync token has expired, a full synchronization begins with an event whose `reset` is true.
 */
export async function* watchTasks(
  tasks: Client<typeof TaskService>,
  options: { syncToken?: string; signal?: AbortSignal } = {},
): AsyncGenerator<WatchEvent, never> {
  let syncToken = options.syncToken ?? "";
  let reset = syncToken === "";
  for (let failures = 0; ; failures++) {
    let delay = 0;
    // Leaving the inner loop does not end the call, so it is aborted.
    const stop = new AbortController();
    options.signal?.addEventListener("abort", () => stop.abort(), { signal: stop.signal });
    if (options.signal?.aborted) stop.abort();
    // Connect would not clear the timer of a deadline, which keeps the process alive, when the loop is left.
    const timer = setTimeout(() => stop.abort(), MAX_STREAM_AGE_MS);
    try {
      const messages = tasks.watchTasks({ syncToken }, { signal: stop.signal });
      for await (const { changes, listChanges, checkpoint, ...message } of messages) {
        syncToken = message.syncToken;
        failures = 0;
        yield { reset, changes, listChanges, syncToken, checkpoint };
        reset = false;
      }
    } catch (cause) {
      const error = TaskeyError.from(cause);
      const isExpired = error.reason === "TOKEN_EXPIRED" && failures === 0;
      const isFinal = FINAL.includes(error.code) || error.reason === "QUOTA_EXCEEDED";
      if (options.signal?.aborted || (isFinal && !isExpired)) throw error;
      if (error.reason === "SYNC_TOKEN_EXPIRED") [syncToken, reset] = ["", true];
      delay = isExpired ? 0 : (error.retryAfterMs ?? 0);
    } finally {
      clearTimeout(timer);
      stop.abort();
    }
    await sleep(Math.max(delay, backoffMs(failures + 1)), options.signal);
  }
}
