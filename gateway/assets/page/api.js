// The public REST API. The browser sends the session cookies by itself; scripts never see a token.
import { report } from "./connection.js";

/** An error response, or no usable response at all (code 0). */
export class ApiError extends Error {
  constructor(code, error = {}, retryAfter = 0) {
    super(error.message ?? "no response");
    const detail = (name) => error.details?.find((entry) => entry["@type"]?.endsWith(name)) ?? {};
    this.code = code;
    this.retryAfter = retryAfter;
    this.reason = detail("google.rpc.ErrorInfo").reason ?? "";
    this.fields = detail("google.rpc.BadRequest").fieldViolations ?? [];
  }

  /** Reports whether the server, or a proxy in front of it, is currently unavailable. */
  get isOutage() {
    return [0, 502, 503, 504].includes(this.code);
  }

  /**
   * Reports whether a retry may succeed. Of two concurrent refreshes of a session, one fails with
   * `REFRESH_TOKEN_SUPERSEDED` and succeeds when it is retried.
   */
  get isTransient() {
    return this.isOutage || this.reason === "REFRESH_TOKEN_SUPERSEDED";
  }
}

/** An error whose message is shown to the user unchanged. */
export class UserError extends Error {}

/** Dispatches `end` when the session has ended. */
export const sessionEvents = new EventTarget();

/** Asks the user for the password when a call requires a recent proof, and resolves to whether there is one. */
export const stepUp = { prove: async () => false };

/** Reasons of errors of logins with code 401. All others mean that the session has ended. */
const LOGIN_REASONS = ["CREDENTIALS_INVALID", "CODE_INVALID", "CHALLENGE_INVALID", "PASSKEY_INVALID"];

const MAX_ATTEMPTS = 3;
const TIMEOUT_MS = 15_000;
/** Paths whose writes accept an idempotency key, which makes retries safe. */
const IDEMPOTENT_PATHS = /^\/v1\/(tasks(?!:import)|lists)\b/;

/**
 * Calls a method and returns its JSON. Retries transient errors of methods for which this is safe: reads and those
 * with an idempotency key. A `body` that is a file is sent as it is. With `isFile`, returns the response as a file. For
 * files, `timeoutMs` should be longer.
 */
export async function call(method, path, { body, etag, isFile = false, timeoutMs = TIMEOUT_MS } = {}) {
  const headers = { accept: isFile ? "*/*" : "application/json" };
  if (body !== undefined && !(body instanceof Blob)) headers["content-type"] = "application/json";
  if (etag) headers["if-match"] = etag;
  const hasKey = method !== "GET" && IDEMPOTENT_PATHS.test(path);
  if (hasKey) headers["idempotency-key"] = newKey();
  const attempts = method === "GET" || hasKey ? MAX_ATTEMPTS : 1;
  const options = { isFile, timeoutMs };
  for (let retriesLeft = attempts - 1; ; retriesLeft--) {
    try {
      return await send(method, path, headers, body, options);
    } catch (error) {
      if (error.reason === "STEP_UP_REQUIRED" && (await stepUp.prove())) return send(method, path, headers, body, options);
      if (!error.isTransient || !retriesLeft || !navigator.onLine) throw error;
      await new Promise((resolve) => setTimeout(resolve, Math.min(error.retryAfter || 1, 5) * 1000));
    }
  }
}

/** Returns a path of the API as a URL relative to the page, which a proxy may serve under a path of its own. */
export const relative = (path) => `.${path}`;

/** Returns a random UUID. `crypto.randomUUID` exists only in secure contexts (TLS or localhost). */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

async function send(method, path, headers, body, { isFile, timeoutMs }) {
  let response, content;
  try {
    const signal = AbortSignal.timeout(timeoutMs);
    const data = body === undefined || body instanceof Blob ? body : JSON.stringify(body);
    response = await fetch(relative(path), { method, headers, body: data, signal, credentials: "same-origin", cache: "no-store" });
    content = isFile && response.ok ? await response.blob() : await response.json();
  } catch {
    // The gateway always sends JSON; other bodies come from a proxy.
    const error = new ApiError(response && !response.ok ? response.status : 0);
    report(error.code ? "unavailable" : "unreachable");
    throw error;
  }
  if (response.ok) {
    report("ok");
    return content;
  }
  const error = new ApiError(response.status, content.error, Number(response.headers.get("retry-after")) || 0);
  report(error.isOutage ? "unavailable" : "ok");
  // The access token can expire during a long upload, while the session lives.
  const isInterrupted = body instanceof Blob && error.reason === "TOKEN_EXPIRED";
  if (error.code === 401 && !isInterrupted && !LOGIN_REASONS.includes(error.reason)) sessionEvents.dispatchEvent(new Event("end"));
  throw error;
}

const TEXT_BY_REASON = {
  ACTION_TOKEN_INVALID: "This link was already used, or has expired. Request a new mail.",
  CHALLENGE_INVALID: "The login has expired. Log in again.",
  CODE_INVALID: "The code is wrong, or was already used.",
  CREDENTIALS_INVALID: "The email address or the password is incorrect.",
  EMAIL_TAKEN: "An account with this email address already exists. Log in instead.",
  ETAG_MISMATCH: "This was changed elsewhere in the meantime. Try again to overwrite that change.",
  TASK_NOT_FOUND: "This task no longer exists.",
  LIST_NOT_FOUND: "This list no longer exists.",
  MESSAGE_TOO_LARGE: "This is too large.",
  DEFAULT_LIST: "The default list cannot be deleted.",
  QUOTA_EXCEEDED: "You have reached the limit. Delete some items first.",
  LAST_ADMIN: "This is the account of the last administrator, so it can neither be deleted nor disabled.",
  MAIL_DISABLED: "This server sends no mails.",
  USER_NOT_FOUND: "This account does not exist.",
  PASSKEYS_DISABLED: "This server permits no passkeys.",
  USER_CODE_INVALID: "No device waits with this code. Check the code, or begin again on the device.",
  STEP_UP_REQUIRED: "Not done, because this requires your password.",
};

/** Returns the text that describes an error to the user. */
export function explain(error) {
  if (error instanceof UserError) return error.message;
  if (!(error instanceof ApiError)) {
    console.error(error);
    return "Something went wrong on this page. Please reload it.";
  }
  const retryHint = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : " Try again in a moment.";
  if (!navigator.onLine) return "You are offline, so this could not be saved.";
  if (error.code === 0) return "The server cannot be reached." + retryHint;
  if (error.isTransient) return "The service is down at the moment." + retryHint;
  if (error.code === 401 && !LOGIN_REASONS.includes(error.reason)) return "You have been logged out.";
  if (error.code === 403 && error.reason === "CREDENTIALS_INVALID") return "That is not your current password.";
  if (error.code === 429 && error.reason !== "QUOTA_EXCEEDED") return "Too many attempts." + retryHint;
  const text = TEXT_BY_REASON[error.reason] ?? error.fields[0]?.description ?? error.message;
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}
