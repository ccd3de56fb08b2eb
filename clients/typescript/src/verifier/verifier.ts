import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import type { SecureClientSessionOptions } from "node:http2";
import { SignJWT } from "jose";
import type { JwkSet } from "../gen/taskey/auth/v1/token_service_pb.js";
import { TokenError } from "./error.js";
import { followFeed } from "./feed.js";
import { importKeys, type KeySet } from "./keys.js";
import { PERSONAL_PREFIX, PersonalTokens, remoteExchange } from "./personal.js";
import { HEARTBEAT_LIMIT_MS, Revocations, type State } from "./revocations.js";
import { hasExpired, MAX_LIFETIME_MS, verifyToken, type Claims } from "./token.js";

/** How often the key file is read again. */
const KEY_FILE_INTERVAL_MS = 2_000;
/** How often the token of a stream is checked for expiry. */
const POLL_INTERVAL_MS = 1_000;

/** Options of a verifier. */
export interface VerifierOptions {
  /** The address of auth-service or of the gateway: `https://HOST:PORT`, or `http://HOST:PORT` without TLS. */
  url: string;
  /** The issuer and the audience that tokens must have. Both are `taskey` by default. */
  issuer?: string;
  audience?: string;
  /** The keys of access tokens, as a JWK Set. Without it, the public keys of the feed are used. Mode 0600. */
  keyFile?: string;
  /** A service token with the scope `tokens.verify`. Without it, the verifier signs a token with its signing key. */
  serviceToken?: string;
  /** How long tokens are accepted while no revocations are received. 30 s by default, at most 15 min. */
  maxStalenessMs?: number;
  /** PEM files: the authorities to trust, and the certificate and private key of this service. */
  caFile?: string;
  certFile?: string;
  tlsKeyFile?: string;
  /** Receives failures of the feed and of the key file, for the log. */
  onError?: (error: unknown) => void;
}

/** Verifies access tokens without a call for each, and receives the revocations of their sessions. */
export class Verifier {
  readonly #names: { issuer: string; audience: string };
  readonly #revocations: Revocations;
  readonly #stop = new AbortController();
  readonly #personal: PersonalTokens;
  #keys: KeySet | undefined;

  private constructor(
    readonly options: VerifierOptions,
    tls: SecureClientSessionOptions,
  ) {
    const { issuer = "taskey", audience = "taskey", maxStalenessMs = 30_000 } = options;
    this.#names = { issuer, audience };
    this.#revocations = new Revocations(Math.min(Math.max(maxStalenessMs, HEARTBEAT_LIMIT_MS), MAX_LIFETIME_MS));
    const { exchange, close } = remoteExchange(options.url, tls, () => this.#credential());
    this.#personal = new PersonalTokens(exchange, this.#names);
    this.#stop.signal.addEventListener("abort", close);
  }

  /**
   * Starts a verifier, which follows the revocations in the background until `close` is called. It accepts no token
   * before it has received the revocations: see `state`.
   *
   * @throws if a file is unusable.
   */
  static async start(options: VerifierOptions): Promise<Verifier> {
    const { url, keyFile, caFile, certFile, tlsKeyFile, onError = () => undefined } = options;
    const read = (file?: string) => (file === undefined ? undefined : readFileSync(file));
    const tls = { ca: read(caFile), cert: read(certFile), key: read(tlsKeyFile) };
    const verifier = new Verifier(options, tls);
    if (keyFile !== undefined) {
      verifier.#keys = await readKeys(keyFile);
      verifier.#followKeyFile(keyFile, onError);
    }
    const feed = {
      url,
      tls,
      revocations: verifier.#revocations,
      credential: () => verifier.#credential(),
      onKeys: (keys: JwkSet) => verifier.#receiveKeys(keys),
      onError,
    };
    void followFeed(feed, verifier.#stop.signal);
    return verifier;
  }

  /** How fresh the revocations are. Use it for health checks: tokens are accepted in the states FRESH and STALE. */
  get state(): State {
    return this.#revocations.state;
  }

  /**
   * Verifies an access token, or a personal access token that a client at this address has sent, and returns its claims.
   * The first call with a personal access token exchanges it at auth-service. If the address is unknown, tokens that are
   * limited to networks are refused.
   *
   * @throws TokenError
   */
  async verify(token: string, clientAddress?: string): Promise<Claims> {
    const { state } = this;
    if (state === "COLD" || state === "EXPIRED") throw TokenError.notReady();
    const claims = token.startsWith(PERSONAL_PREFIX)
      ? await this.#personal.verify(token, clientAddress, (claims) => this.#isCurrent(claims))
      : await this.#verifyAccessToken(token, state);
    this.checkStillValid(claims);
    return claims;
  }

  async #verifyAccessToken(token: string, state: State): Promise<Claims> {
    if (this.#keys === undefined) throw TokenError.notReady();
    return verifyToken(this.#keys, this.#names, token).catch((error: unknown) => {
      // New keys are received with the revocations, so they may be missing too.
      throw error instanceof TokenError && error.isKeyUnknown && state !== "FRESH" ? TokenError.notReady() : error;
    });
  }

  #isCurrent(claims: Claims): boolean {
    try {
      this.checkStillValid(claims);
      return true;
    } catch {
      return false;
    }
  }

  /**
   * Verifies the token in the value of an `authorization` header (RFC 6750, section 2.1).
   *
   * @throws TokenError
   */
  async authenticate(authorization: string | null | undefined, clientAddress?: string): Promise<Claims> {
    if (authorization == null) throw TokenError.missing();
    const space = authorization.indexOf(" ");
    if (authorization.slice(0, Math.max(space, 0)).toLowerCase() !== "bearer") throw TokenError.invalid();
    return this.verify(authorization.slice(space + 1), clientAddress);
  }

  /**
   * Checks that a verified token has not expired and its session has not been revoked.
   *
   * @throws TokenError
   */
  checkStillValid(claims: Claims): void {
    if (hasExpired(claims, Date.now())) throw TokenError.expired();
    if (this.state === "COLD" || this.state === "EXPIRED") throw TokenError.notReady();
    const status = this.#revocations.check(claims);
    if (status === "REVOKED") throw TokenError.revoked();
    if (status === "OUTDATED") throw TokenError.expired();
  }

  /** Calls `onInvalid` when a token is no longer valid, unless the returned function is called before. For streams. */
  watch(claims: Claims, onInvalid: (error: TokenError) => void): () => void {
    const check = () => {
      try {
        this.checkStillValid(claims);
      } catch (error) {
        stop();
        onInvalid(error as TokenError);
      }
    };
    const unsubscribe = this.#revocations.subscribe(check);
    const timer = setInterval(check, POLL_INTERVAL_MS).unref();
    const stop = () => {
      unsubscribe();
      clearInterval(timer);
    };
    check();
    return stop;
  }

  /** Stops following the revocations. */
  close(): void {
    this.#stop.abort();
  }

  /** Polls the key file. While it is unusable, the last valid keys remain in use. */
  #followKeyFile(file: string, onError: (error: unknown) => void): void {
    const read = () => void readKeys(file).then((keys) => (this.#keys = keys), onError);
    const timer = setInterval(read, KEY_FILE_INTERVAL_MS).unref();
    this.#stop.signal.addEventListener("abort", () => clearInterval(timer));
  }

  async #receiveKeys(keys: JwkSet): Promise<void> {
    if (this.options.keyFile !== undefined) return;
    if (keys.keys.length === 0) throw new Error("the peer signs with a shared key, so this verifier needs a key file");
    this.#keys = await importKeys(keys, Date.now());
  }

  async #credential(): Promise<string | undefined> {
    if (this.options.serviceToken !== undefined) return this.options.serviceToken;
    const [key] = this.#keys?.values() ?? [];
    if (key?.signing === undefined) return undefined;
    return new SignJWT({ sid: randomUUID(), roles: ["verifier"] })
      .setProtectedHeader({ alg: key.algorithm, kid: key.id, typ: "at+jwt" })
      .setIssuer(this.#names.issuer)
      .setAudience(this.#names.audience)
      .setSubject(randomUUID())
      .setJti(randomUUID())
      .setIssuedAt()
      .setExpirationTime(`${MAX_LIFETIME_MS / 1000}s`)
      .sign(key.signing);
  }
}

/** Reads a key file, which must not be accessible to other users. */
async function readKeys(file: string): Promise<KeySet> {
  const { mode } = await stat(file);
  if (process.platform !== "win32" && (mode & 0o077) !== 0) throw new Error(`${file} must have mode 0600`);
  let jwkSet: unknown;
  try {
    jwkSet = JSON.parse(await readFile(file, "utf8"));
  } catch {
    // The error of JSON.parse quotes the text, which is secret.
    throw new Error(`${file} is not a JWK Set (RFC 7517)`);
  }
  return importKeys(jwkSet, Date.now());
}
