// Keeps the store in sync with the server: loads the lists and tasks as changes, then follows the stream of changes.
import { call, relative } from "./api.js";
import { report, reportStream } from "./connection.js";
import { isNotifying } from "./notifications.js";
import { store } from "./store.js";

const MIN_RETRY_DELAY_MS = 1000;
const MAX_RETRY_DELAY_MS = 30_000;
/** Browsers run timers of hidden windows at most once a minute. */
const HIDDEN_DELAY_MS = 60_000;

let userId, stream, timer, syncToken = "", retryDelay = MIN_RETRY_DELAY_MS;

/** Starts to sync the user's data. Hidden windows have no stream: browsers limit the connections of all windows. */
export function startWatch(user) {
  userId = user.id;
  sync();
}

/** Stops and discards the sync token. */
export function stopWatch() {
  userId = undefined;
  pause();
  syncToken = "";
  reportStream(true);
}

addEventListener("online", () => {
  report("ok");
  if (userId) sync();
});
addEventListener("offline", () => {
  pause();
  report("offline");
});
document.addEventListener("visibilitychange", () => {
  pause();
  if (!userId) return;
  if (document.hidden) syncWhileHidden();
  else sync();
});

/** Looks for reminders that have fired, if the user is notified of them. */
function syncWhileHidden() {
  if (isNotifying()) timer = setTimeout(sync, HIDDEN_DELAY_MS);
}

function pause() {
  clearTimeout(timer);
  stream?.close();
  stream = undefined;
}

async function sync() {
  pause();
  const startUserId = userId;
  try {
    const user = await call("GET", "/v1/me");
    if (userId !== startUserId) return;
    // Another user has logged in through another window; all windows share the cookies.
    if (user.id !== userId) return location.reload();
    await pullChanges();
    if (userId && document.hidden) syncWhileHidden();
    else if (userId) openStream();
  } catch (error) {
    if (error.code === 401 || userId !== startUserId) return;
    if (error.reason?.startsWith("SYNC_TOKEN")) {
      // The server no longer has all changes since the token, so load everything again.
      syncToken = "";
      store.clear();
      return sync();
    }
    scheduleRetry((error.retryAfter ?? 0) * 1000);
  }
}

function scheduleRetry(minDelay = 0) {
  if (!userId) return;
  clearTimeout(timer);
  timer = setTimeout(sync, Math.max(retryDelay, minDelay));
  retryDelay = Math.min(retryDelay * 2, MAX_RETRY_DELAY_MS);
}

async function pullChanges() {
  let response;
  do {
    response = await call("GET", `/v1/tasks:changes?page_size=500&sync_token=${encodeURIComponent(syncToken)}`);
    if (!userId) return;
    store.apply(response);
    syncToken = response.nextSyncToken;
  } while (response.hasMore);
}

function openStream() {
  pause();
  const opened = new EventSource(relative(`/v1/tasks:watch?sync_token=${encodeURIComponent(syncToken)}`));
  stream = opened;
  opened.addEventListener("open", () => {
    retryDelay = MIN_RETRY_DELAY_MS;
    reportStream(true);
  });
  opened.addEventListener("message", (event) => applyMessage(JSON.parse(event.data)));
  opened.addEventListener("error", (event) => stream === opened && handleStreamError(event.data));
}

function applyMessage(message) {
  store.apply(message);
  syncToken = message.syncToken || syncToken;
}

/**
 * Handles an error of the stream. The browser reopens a stream that breaks, but not one that fails to open, and does
 * not report the reason.
 */
function handleStreamError(data) {
  const error = data && JSON.parse(data).error;
  // The access token has expired or the session has ended; the first request of the sync shows which.
  if (error?.code === 401) return sync();
  if (error) return;
  reportStream(false);
  if (stream.readyState !== EventSource.CLOSED) return;
  pause();
  scheduleRetry();
}
