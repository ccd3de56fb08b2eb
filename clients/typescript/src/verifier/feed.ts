import { timestampMs } from "@bufbuild/protobuf/wkt";
import { createClient, type Client } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import type { SecureClientSessionOptions } from "node:http2";
import { TokenService, type JwkSet, type WatchRevocationsResponse } from "../gen/taskey/auth/v1/token_service_pb.js";
import { HEARTBEAT_LIMIT_MS, type Revocations } from "./revocations.js";
import { MAX_LIFETIME_MS } from "./token.js";

/** How long connecting and the first message may take. */
const CONNECT_TIMEOUT_MS = 1_500;
/** The delay between attempts doubles from the minimum to the maximum, with jitter. */
const MIN_BACKOFF_MS = 50;
const MAX_BACKOFF_MS = 300;
/** After this time, the backoff starts over. */
const STABLE_AFTER_MS = 5_000;
/** How long a stream is used: less than the lifetime of the token that opened it. */
const MAX_STREAM_AGE_MS = MAX_LIFETIME_MS - 120_000;
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

/** Where and how to follow the feed of revocations. */
export interface FeedOptions {
  url: string;
  tls: SecureClientSessionOptions;
  revocations: Revocations;
  /** Returns a bearer token that authenticates the verifier, or undefined if its certificate does. */
  credential: () => Promise<string | undefined>;
  /** Receives the public keys. */
  onKeys: (keys: JwkSet) => Promise<void>;
  /** Receives failures, for the log. */
  onError: (error: unknown) => void;
}

/** Follows the feed until the signal is aborted. When a stream ends, opens another one. */
export async function followFeed(options: FeedOptions, signal: AbortSignal): Promise<void> {
  for (let backoff = MIN_BACKOFF_MS; ; backoff = Math.min(backoff * 2, MAX_BACKOFF_MS)) {
    const startedAt = performance.now();
    // Each stream has its own connection, so that a half-open one is not used again.
    const manager = new Http2SessionManager(options.url, undefined, options.tls);
    const close = () => manager.abort();
    signal.addEventListener("abort", close);
    try {
      await followStream(options, manager);
      if (performance.now() - startedAt < MAX_STREAM_AGE_MS) throw new Error("the peer ended the stream");
    } catch (error) {
      if (!signal.aborted) options.onError(error);
    } finally {
      signal.removeEventListener("abort", close);
      close();
    }
    if (performance.now() - startedAt > STABLE_AFTER_MS) backoff = MIN_BACKOFF_MS;
    await new Promise((resolve) => setTimeout(resolve, backoff * (0.5 + Math.random())));
    if (signal.aborted) return;
  }
}

/** Follows one stream until it ends or reaches its maximum age. */
async function followStream(options: FeedOptions, sessionManager: Http2SessionManager): Promise<void> {
  const { url, revocations, onKeys } = options;
  const transport = createGrpcTransport({ baseUrl: url, sessionManager, readMaxBytes: MAX_MESSAGE_BYTES });
  const client = createClient(TokenService, transport);
  const acknowledge = acknowledger(client, options.credential);
  const expiresAt = performance.now() + MAX_STREAM_AGE_MS;
  const stream = client.watchRevocations({}, { headers: await headers(options.credential) });
  const messages = stream[Symbol.asyncIterator]();
  // The snapshot takes effect when it is complete.
  let snapshot: string[] | undefined = [];
  for (let timeoutMs = CONNECT_TIMEOUT_MS; performance.now() < expiresAt; timeoutMs = HEARTBEAT_LIMIT_MS) {
    const next = await within(timeoutMs, messages.next());
    if (next.done) return;
    const { event } = next.value;
    if ((snapshot === undefined) === (event.case === "snapshotChunk" || event.case === "snapshotEnd")) {
      throw new Error("the feed has a second snapshot");
    }
    switch (event.case) {
      case "snapshotChunk":
        for (const id of event.value.revokedSessionIds) snapshot!.push(id);
        break;
      case "snapshotEnd": {
        const { keys, issuedBefore } = event.value;
        if (keys) await onKeys(keys);
        revocations.addSnapshot(snapshot!, issuedBefore && timestampMs(issuedBefore));
        snapshot = undefined;
        acknowledge(next.value);
        break;
      }
      case "update":
        revocations.add(event.value.revokedSessionIds);
        acknowledge(next.value);
        break;
      case "heartbeat":
        revocations.add([]);
        break;
      case "keys":
        // A peer that cannot read its revocations also sends keys, so they are not a heartbeat.
        await onKeys(event.value);
        break;
      case undefined:
      // A newer server may send events that this version does not know.
    }
  }
}

/** Returns a function that acknowledges the latest update. At most one call is in progress. */
function acknowledger(client: Client<typeof TokenService>, credential: FeedOptions["credential"]) {
  let latest: WatchRevocationsResponse | undefined;
  let isSending = false;
  const send = async () => {
    isSending = true;
    while (latest !== undefined) {
      const { watchId, sequence } = latest;
      latest = undefined;
      const options = { headers: await headers(credential), timeoutMs: HEARTBEAT_LIMIT_MS };
      await client.acknowledgeRevocations({ watchId, sequence }, options);
    }
  };
  return (message: WatchRevocationsResponse) => {
    latest = message;
    // A failure is ignored: the stream shows whether the peer is alive.
    if (!isSending)
      void send()
        .catch(() => undefined)
        .finally(() => (isSending = false));
  };
}

async function headers(credential: FeedOptions["credential"]): Promise<HeadersInit> {
  const token = await credential();
  return token === undefined ? {} : { authorization: `Bearer ${token}` };
}

/** Waits for a promise, but not longer than the timeout. */
async function within<T>(timeoutMs: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("no message in time")), timeoutMs);
  });
  return Promise.race([promise, timeout]).finally(() => clearTimeout(timer));
}
