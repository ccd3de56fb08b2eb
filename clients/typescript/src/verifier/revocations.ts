import { LEEWAY_MS, MAX_LIFETIME_MS, type Claims } from "./token.js";

/** After this time without a heartbeat, revocations may have been missed. */
export const HEARTBEAT_LIMIT_MS = 3_000;

/**
 * How long a revoked session is kept: until none of its access tokens can be valid. Measured from when it was received,
 * so that it does not depend on the clock of another machine.
 */
const RETENTION_MS = MAX_LIFETIME_MS + LEEWAY_MS + 60_000;

/**
 * Maximum number of sessions in memory, at about 100 bytes each. If there are more, the older half is replaced by a time.
 * Tokens that were issued before that time are refused as expired, and active sessions have to refresh.
 */
const MAX_SESSIONS = 1_000_000;

const PRUNE_INTERVAL_MS = 60_000;

/** How fresh the revocations are. Tokens are accepted while they are FRESH or STALE. */
export type State = "COLD" | "FRESH" | "STALE" | "EXPIRED";

/** The clocks: the wall clock, and a monotonic clock. In milliseconds. */
export interface Clock {
  now: () => number;
  monotonic: () => number;
}

export const SYSTEM_CLOCK: Clock = { now: () => Date.now(), monotonic: () => performance.now() };

/** The revoked sessions, in memory. */
export class Revocations {
  /** Revoked sessions, with the monotonic time at which they were received. */
  readonly #sessions = new Map<string, number>();
  readonly #listeners = new Set<() => void>();
  /** Tokens that were issued before this time are refused. */
  #issuedBeforeMs = -Infinity;
  #hasSnapshot = false;
  #lastHeartbeat: number | undefined;
  #prunedAt = 0;

  constructor(
    readonly maxStalenessMs: number,
    private readonly clock = SYSTEM_CLOCK,
    private readonly maxSessions = MAX_SESSIONS,
  ) {}

  /** The number of revoked sessions in memory. */
  get size(): number {
    return this.#sessions.size;
  }

  get state(): State {
    if (this.#lastHeartbeat === undefined) return "COLD";
    const silence = this.clock.monotonic() - this.#lastHeartbeat;
    if (silence <= HEARTBEAT_LIMIT_MS) return "FRESH";
    return silence <= this.maxStalenessMs ? "STALE" : "EXPIRED";
  }

  /**
   * Returns the status of the session of a token, and of those of the services that act for the user. An OUTDATED token must be
   * refreshed.
   */
  check(claims: Claims): "ACTIVE" | "REVOKED" | "OUTDATED" {
    if (this.#sessions.has(claims.sid)) return "REVOKED";
    for (let actor = claims.act; actor !== undefined; actor = actor.act) {
      if (actor.sid !== undefined && this.#sessions.has(actor.sid)) return "REVOKED";
    }
    return claims.iat * 1000 < this.#issuedBeforeMs ? "OUTDATED" : "ACTIVE";
  }

  /**
   * Adds the sessions of a snapshot. Others remain, because the peer may have lost their revocation. It is not a
   * heartbeat, because a peer without its database may send an old one.
   */
  addSnapshot(sessions: Iterable<string>, issuedBeforeMs = -Infinity): void {
    this.#hasSnapshot = true;
    this.#issuedBeforeMs = Math.max(this.#issuedBeforeMs, issuedBeforeMs);
    this.#insert(sessions);
    this.#notify();
  }

  /** Adds revoked sessions, if any. Each call is also a heartbeat, which counts only after a snapshot. */
  add(sessions: Iterable<string>): void {
    const now = this.clock.monotonic();
    if (this.#hasSnapshot) this.#lastHeartbeat = now;
    if (now - this.#prunedAt > PRUNE_INTERVAL_MS) {
      for (const [session, receivedAt] of this.#sessions) {
        if (now - receivedAt >= RETENTION_MS) this.#sessions.delete(session);
      }
      this.#prunedAt = now;
    }
    this.#insert(sessions);
    this.#notify();
  }

  /** Calls `listener` after each update and heartbeat, until the returned function is called. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #insert(sessions: Iterable<string>): void {
    const now = this.clock.monotonic();
    for (const session of sessions) {
      this.#sessions.set(session.toLowerCase(), now);
      // A snapshot cannot exceed the memory either.
      if (this.#sessions.size > this.maxSessions) this.#collapse(now);
    }
  }

  /**
   * Replaces the older half by a time after which none of their tokens was issued, so that no revocation is lost.
   * Sessions that were received at the same time are replaced together.
   */
  #collapse(now: number): void {
    const times = Float64Array.from(this.#sessions.values()).sort();
    const last = times[Math.floor(times.length / 2)]!;
    for (const [session, receivedAt] of this.#sessions) {
      if (receivedAt <= last) this.#sessions.delete(session);
    }
    this.#issuedBeforeMs = Math.max(this.#issuedBeforeMs, this.clock.now() - (now - last) + LEEWAY_MS);
  }

  #notify(): void {
    for (const listener of this.#listeners) listener();
  }
}
