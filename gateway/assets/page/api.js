// The public REST API. The browser sends the session's cookies by itself; no script ever sees a token.
import { report } from "./connection.js";

/** An answer that is no, or none at all (code 0). */
export class Refused extends Error {
  constructor(code, error = {}, retryAfter = 0) {
    super(error.message ?? "no answer");
    const detail = (name) => error.details?.find((one) => one["@type"]?.endsWith(name)) ?? {};
    this.code = code;
    this.retryAfter = retryAfter;
    this.reason = detail("google.rpc.ErrorInfo").reason ?? "";
    this.fields = detail("google.rpc.BadRequest").fieldViolations ?? [];
  }

  /** Whether the server, or something on the way to it, could not answer now. */
  get isOutage() {
    return [0, 502, 503, 504].includes(this.code);
  }

  /** Whether it may go well the next time. Of two renewals of the session at once, one is told to look again. */
  get isPassing() {
    return this.isOutage || this.reason === "REFRESH_TOKEN_SUPERSEDED";
  }
}

/** An error whose text is for the person as it is. */
export class Told extends Error {}

/** Tells that the session has ended. */
export const session = new EventTarget();

const TRIES = 3;
const TIMEOUT = 15_000;
/** These take a key, by which a write that comes twice is done once. */
const KEYED = /^\/v1\/(tasks|lists)\b/;

/** Calls a method, again if its answer was lost and that does no harm, and answers its JSON. */
export async function call(method, path, { body, etag } = {}) {
  const headers = { accept: "application/json" };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (etag) headers["if-match"] = etag;
  const keyed = method !== "GET" && KEYED.test(path);
  if (keyed) headers["idempotency-key"] = newKey();
  const tries = method === "GET" || keyed ? TRIES : 1;
  for (let left = tries - 1; ; left--) {
    try {
      return await once(method, path, headers, body);
    } catch (error) {
      if (!error.isPassing || !left || !navigator.onLine) throw error;
      await new Promise((done) => setTimeout(done, Math.min(error.retryAfter || 1, 5) * 1000));
    }
  }
}

/** `crypto.randomUUID` is there over TLS and on this machine alone. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

async function once(method, path, headers, body) {
  let response, answer;
  try {
    const signal = AbortSignal.timeout(TIMEOUT);
    const text = body === undefined ? undefined : JSON.stringify(body);
    response = await fetch(path, { method, headers, body: text, signal, credentials: "same-origin", cache: "no-store" });
    answer = await response.json();
  } catch {
    // What is no JSON does not come from the gateway.
    const refused = new Refused(response && !response.ok ? response.status : 0);
    report(refused.code ? "down" : "away");
    throw refused;
  }
  if (response.ok) {
    report("fine");
    return answer;
  }
  const refused = new Refused(response.status, answer.error, Number(response.headers.get("retry-after")) || 0);
  report(refused.isOutage ? "down" : "fine");
  if (refused.code === 401 && refused.reason !== "CREDENTIALS_INVALID") session.dispatchEvent(new Event("end"));
  throw refused;
}

const REASONS = {
  CREDENTIALS_INVALID: "The address or the password is not right.",
  EMAIL_TAKEN: "This address already has an account. You can log in with it.",
  ETAG_MISMATCH: "This has been changed elsewhere in the meantime.",
  TASK_NOT_FOUND: "This task is no longer there.",
  LIST_NOT_FOUND: "This list is no longer there.",
  DEFAULT_LIST: "This list cannot be deleted, since new tasks go there.",
  QUOTA_EXCEEDED: "You have as many as one may have. Delete some first.",
  LAST_ADMIN: "You are the last administrator, so this account must stay.",
};

/** What to tell a person. */
export function explain(error) {
  if (error instanceof Told) return error.message;
  if (!(error instanceof Refused)) {
    console.error(error);
    return "Something went wrong on this page. Please load it again.";
  }
  const wait = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : " Try again in a moment.";
  if (!navigator.onLine) return "You are offline, so this could not be saved.";
  if (error.code === 0) return "The server cannot be reached." + wait;
  if (error.isPassing) return "The service is down at the moment." + wait;
  if (error.code === 401 && !error.reason.startsWith("CREDENTIALS")) return "You have been logged out.";
  if (error.code === 403 && error.reason === "CREDENTIALS_INVALID") return "That is not your current password.";
  if (error.code === 429 && error.reason !== "QUOTA_EXCEEDED") return "That was too often." + wait;
  const text = REASONS[error.reason] ?? error.fields[0]?.description ?? error.message;
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}
