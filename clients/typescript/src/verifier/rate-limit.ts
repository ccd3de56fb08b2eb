import { isIPv4, isIPv6 } from "node:net";
import { TokenError } from "./error.js";

/**
 * The exchanges that a client may cause: a burst, then one per interval. A valid token needs one every 5 minutes, so that
 * only clients with many invalid tokens reach the limit.
 */
export const BURST = 100;
const INTERVAL_MS = 200;
/** Errors of rounding. */
const ROUNDING_MS = 1;
/** Maximum number of clients whose exchanges are counted. */
export const MAX_CLIENTS = 4_096;

/**
 * Limits the exchanges of personal access tokens of each client. It is the generic cell rate algorithm: an entry is the time
 * at which a client has its whole burst again.
 */
export class ExchangeLimit {
  readonly #clients = new Map<string, number>();

  constructor(private readonly now: () => number) {}

  /** The number of clients whose exchanges are counted. */
  get size(): number {
    return this.#clients.size;
  }

  /**
   * Counts an exchange.
   *
   * @throws TokenError with the reason RATE_LIMITED if there were too many.
   */
  check(client: string): void {
    const [key, now] = [countedAs(client), this.now()];
    const full = Math.max(this.#clients.get(key) ?? now, now);
    const waitMs = full - now - (BURST - 1) * INTERVAL_MS;
    const isRefused = waitMs > ROUNDING_MS;
    // The clients that were counted last are at the end.
    this.#clients.delete(key);
    this.#clients.set(key, isRefused ? full : full + INTERVAL_MS);
    const [oldest] = this.#clients.size > MAX_CLIENTS ? this.#clients.keys() : [];
    if (oldest !== undefined) this.#clients.delete(oldest);
    if (isRefused) throw TokenError.rateLimited(waitMs / 1000);
  }
}

/** Returns the address under which a client is counted. An IPv6 client usually has a whole /64 network. */
export function countedAs(client: string): string {
  const mapped = client.replace(/^::ffff:(?=\d+\.)/i, "");
  if (isIPv4(mapped) || !isIPv6(client)) return mapped;
  // An address such as `::ffff:192.0.2.1` has eight groups, of which the last two are written as an IPv4 address.
  const [head = "", tail] = client
    .replace(/%.*/, "")
    .replace(/\d+\.[\d.]+$/, "0:0")
    .split("::");
  const groups = head === "" ? [] : head.split(":");
  const last = tail ? tail.split(":").length : 0;
  if (tail !== undefined)
    groups.push(...Array<string>(8 - groups.length - last).fill("0"), ...(tail ? tail.split(":") : []));
  return groups
    .slice(0, 4)
    .map((group) => parseInt(group, 16).toString(16))
    .join(":");
}
