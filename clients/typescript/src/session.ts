import { durationMs, timestampMs, type Duration, type Timestamp } from "@bufbuild/protobuf/wkt";
import { Code, createClient, type Client, type Transport } from "@connectrpc/connect";
import { TaskeyError } from "./errors.js";
import { AuthService, type TokenPair } from "./gen/taskey/auth/v1/auth_service_pb.js";
import { backoffMs, sleep } from "./policy.js";

/** How a client authenticates: with a password, or with a bearer token that is sent as it is and never refreshed. */
export type Credentials = { email: string; password: string; sessionLabel?: string } | { accessToken: string };

/** The part of its lifetime after which an access token is refreshed. */
const REFRESH_AT = 0.8;
/** The timeout of a refresh. Shorter than that of calls, so that a call can wait for a second attempt. */
const REFRESH_TIMEOUT_MS = 4_000;
const MAX_ATTEMPTS = 5;
/** After these reasons, no further attempt can succeed. */
const FINAL = ["CREDENTIALS_INVALID", "REFRESH_TOKEN_REUSED", "REFRESH_TOKEN_INVALID", "TOKEN_REVOKED"];

/** Keeps the tokens of a login. All calls wait for the same login or refresh. */
export class Session {
  readonly #auth: Client<typeof AuthService>;
  #pair: TokenPair | undefined;
  #renewal: Promise<string> | undefined;
  /** Why the session was lost. There is no new login after a revocation. */
  #lost: TaskeyError | undefined;
  #refreshAt = 0;
  #expiresAt = 0;
  #sessionExpiresAt = 0;

  constructor(
    transport: Transport,
    readonly credentials: Credentials,
  ) {
    this.#auth = createClient(AuthService, transport);
  }

  /** Returns an access token, after a login or refresh if necessary. */
  async accessToken(): Promise<string> {
    if ("accessToken" in this.credentials) return this.credentials.accessToken;
    if (this.#lost) throw this.#lost;
    const now = Date.now();
    if (this.#pair && now < this.#refreshAt) return this.#pair.accessToken;
    this.#renewal ??= this.#renew().finally(() => (this.#renewal = undefined));
    if (!this.#pair || now >= this.#expiresAt) return this.#renewal;
    // The token is still valid. If the refresh fails, a later call repeats it.
    this.#renewal.catch(() => undefined);
    return this.#pair.accessToken;
  }

  /** Notes that the server refused a token as expired. Returns whether another one can be obtained. */
  expire(token: string): boolean {
    if (this.#pair?.accessToken === token) this.#refreshAt = this.#expiresAt = 0;
    return "password" in this.credentials;
  }

  /** Revokes the session and forgets its tokens. */
  async logout(): Promise<void> {
    await this.#renewal?.catch(() => undefined);
    const token = "accessToken" in this.credentials ? this.credentials.accessToken : this.#pair?.accessToken;
    const options = { headers: { authorization: `Bearer ${token ?? ""}` } };
    if (token) await this.#auth.logout({ refreshToken: this.#pair?.refreshToken ?? "" }, options);
    this.#pair = this.#lost = undefined;
  }

  /** If a response is lost, sends the same refresh token again: the server then returns the same new one. */
  async #renew(): Promise<string> {
    for (let attempt = 1; ; attempt++) {
      const sentAt = Date.now();
      const refreshToken = sentAt < this.#sessionExpiresAt ? this.#pair?.refreshToken : undefined;
      try {
        const pair = await (refreshToken === undefined
          ? this.#auth.login(this.credentials as object)
          : this.#auth.refresh({ refreshToken }, { timeoutMs: REFRESH_TIMEOUT_MS }));
        return this.#store(pair, sentAt);
      } catch (cause) {
        const error = TaskeyError.from(cause);
        if (FINAL.includes(error.reason)) throw (this.#lost = error);
        // ABORTED: the newer token is in use already. A login is not repeated, because each one creates a session.
        const isRepeatable = [Code.Unavailable, Code.DeadlineExceeded, Code.Aborted].includes(error.code);
        if (refreshToken === undefined || attempt >= MAX_ATTEMPTS || !isRepeatable) throw error;
        await sleep(error.retryAfterMs ?? (error.code === Code.Aborted ? 1_000 : backoffMs(attempt)));
      }
    }
  }

  #store(pair: TokenPair, sentAt: number): string {
    const lifetime = lifetimeMs(pair.accessLifetime, pair.accessExpireTime);
    this.#refreshAt = sentAt + lifetime * REFRESH_AT;
    this.#expiresAt = sentAt + lifetime;
    this.#sessionExpiresAt = sentAt + lifetimeMs(pair.refreshLifetime, pair.refreshExpireTime);
    this.#pair = pair;
    return pair.accessToken;
  }
}

/** Returns for how long a token is still valid. Older servers send only when it expires, by their clock. */
function lifetimeMs(lifetime?: Duration, expireTime?: Timestamp): number {
  return lifetime ? durationMs(lifetime) : expireTime ? timestampMs(expireTime) - Date.now() : 0;
}
