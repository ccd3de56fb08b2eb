// Keeps the store as the server has it: pulls what is there, then follows the stream of changes.
import { call } from "./api.js";
import { report, reportStream } from "./connection.js";
import { store } from "./store.js";

const LONGEST_WAIT = 30_000;

let owner, source, timer, token = "", wait = 1000;

/** Begins to follow this user's. A hidden window does not: a browser has few connections for all windows together. */
export function startWatch(user) {
  owner = user.id;
  begin();
}

/** Ends it, and forgets where it was. */
export function stopWatch() {
  owner = undefined;
  pause();
  token = "";
  reportStream(true);
}

addEventListener("online", () => {
  report("fine");
  if (owner) begin();
});
addEventListener("offline", () => {
  pause();
  report("offline");
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) pause();
  else if (owner) begin();
});

function pause() {
  clearTimeout(timer);
  source?.close();
  source = undefined;
}

async function begin() {
  pause();
  const follows = owner;
  try {
    const user = await call("GET", "/v1/me");
    if (owner !== follows) return;
    // Somebody else has logged in through another window, whose cookies are these.
    if (user.id !== owner) return location.reload();
    await pullLists();
    await pullTasks();
    if (owner && !document.hidden) follow();
  } catch (error) {
    if (error.code === 401 || owner !== follows) return;
    if (error.reason?.startsWith("SYNC_TOKEN")) {
      // The server no longer knows what came after it, so everything is asked for anew.
      token = "";
      store.forgetTasks();
      return begin();
    }
    tryLater((error.retryAfter ?? 0) * 1000);
  }
}

function tryLater(least = 0) {
  if (!owner) return;
  clearTimeout(timer);
  timer = setTimeout(begin, Math.max(wait, least));
  wait = Math.min(wait * 2, LONGEST_WAIT);
}

/** The lists come without a stream of their own. */
export async function pullLists() {
  const lists = [];
  let page = "";
  do {
    const answer = await call("GET", `/v1/lists?page_size=500&page_token=${encodeURIComponent(page)}`);
    lists.push(...answer.taskLists);
    page = answer.nextPageToken;
  } while (page);
  if (owner) store.lists = lists;
}

async function pullTasks() {
  let answer;
  do {
    answer = await call("GET", `/v1/tasks:changes?page_size=500&sync_token=${encodeURIComponent(token)}`);
    if (!owner) return;
    store.apply(answer.changes);
    token = answer.nextSyncToken;
  } while (answer.hasMore);
}

function follow() {
  pause();
  const stream = new EventSource(`/v1/tasks:watch?sync_token=${encodeURIComponent(token)}`);
  source = stream;
  stream.addEventListener("open", () => {
    wait = 1000;
    reportStream(true);
  });
  stream.addEventListener("message", (event) => take(JSON.parse(event.data)));
  stream.addEventListener("error", (event) => source === stream && broken(stream, event.data));
}

/** A message without changes comes every few seconds: the time to look whether the lists are still the same. */
function take(message) {
  store.apply(message.changes);
  token = message.syncToken || token;
  if (!message.changes.length || store.lacksLists) pullLists().catch(() => {});
}

/** A stream that breaks is taken up by the browser; one that is refused is not, nor does the browser say why. */
function broken(stream, data) {
  const refusal = data && JSON.parse(data).error;
  // The access token has expired, or the session has ended: the first request tells.
  if (refusal?.code === 401) return begin();
  if (refusal) return;
  reportStream(false);
  if (stream.readyState !== EventSource.CLOSED) return;
  pause();
  tryLater();
}
