import { createHash } from "node:crypto";
import { BlockList, isIP } from "node:net";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import type { SecureClientSessionOptions } from "node:http2";
import { TokenService, type ExchangePersonalAccessTokenResponse } from "../gen/taskey/auth/v1/token_service_pb.js";
import { TokenError } from "./error.js";
import { ExchangeLimit } from "./rate-limit.js";
import { parseScopes, UUID, type Claims, type Names } from "./token.js";

/** The prefix of personal access tokens, which distinguishes them from access tokens. */
export const PERSONAL_PREFIX = "taskey_pat_";
/** How long the claims of a token are remembered at most. */
const MAX_AGE_MS = 300_000;
/** How long an invalid token is remembered. No token with the same text can become valid. */
const REJECTED_MAX_AGE_MS = 60_000;
/** Maximum numbers of remembered tokens, valid and invalid ones. They do not evict each other. */
const MAX_ACCEPTED = 16_384;
const MAX_REJECTED = 4_096;
/** Maximum number of exchanges in progress, and of those that wait. */
const MAX_EXCHANGES = 32;
const MAX_WAITING = 256;
/** How long an exchange may take. */
const EXCHANGE_TIMEOUT_MS = 2_000;

const FORMAT = /^(taskey_pat_[0-9a-f]{32}_[A-Za-z0-9_-]{43})_([0-9a-f]{8})$/;

/** Exchanges a token that a client at an address has sent. Returns undefined if the token is not valid. */
export type Exchange = (token: string, client: string) => Promise<ExchangePersonalAccessTokenResponse | undefined>;

/** The result of an exchange. */
interface Exchanged {
  claims: Claims;
  /** The networks from which the token can be used, or undefined if it can be used from everywhere. */
  networks: BlockList | undefined;
  /** Until when the claims are remembered, as a monotonic time. */
  until: number;
}

/** Verifies personal access tokens. Tokens are remembered by their hashes, so that none is kept in memory. */
export class PersonalTokens {
  readonly #accepted = new Map<string, Exchanged>();
  readonly #rejected = new Map<string, number>();
  readonly #exchanging = new Map<string, Promise<Exchanged>>();
  readonly #waiting: (() => void)[] = [];
  readonly #limit = new ExchangeLimit(() => this.now());
  #running = 0;

  constructor(
    private readonly exchange: Exchange,
    private readonly names: Names,
    private readonly now = () => performance.now(),
    private readonly maxAccepted = MAX_ACCEPTED,
    private readonly maxRejected = MAX_REJECTED,
  ) {}

  /** The numbers of remembered tokens. */
  get sizes(): [number, number] {
    return [this.#accepted.size, this.#rejected.size];
  }

  /**
   * Returns the claims of a token that a client has sent. Claims that are not current are not used.
   *
   * @throws TokenError
   */
  async verify(token: string, client: string | undefined, isCurrent: (claims: Claims) => boolean): Promise<Claims> {
    if (!hasValidFormat(token)) throw TokenError.invalid();
    const hash = createHash("sha256").update(token).digest("base64url");
    let found = this.#accepted.get(hash);
    if (found === undefined || this.now() >= found.until || !isCurrent(found.claims)) {
      if (this.now() < (this.#rejected.get(hash) ?? -Infinity)) throw TokenError.invalid();
      found = await this.#exchangeOnce(hash, token, client);
    }
    if (!permits(found, client)) throw TokenError.invalid();
    return found.claims;
  }

  /** Exchanges a token. Calls with the same token wait for one exchange. */
  #exchangeOnce(hash: string, token: string, client = ""): Promise<Exchanged> {
    let exchanging = this.#exchanging.get(hash);
    if (exchanging === undefined) {
      exchanging = this.#renew(hash, token, client).finally(() => this.#exchanging.delete(hash));
      this.#exchanging.set(hash, exchanging);
    }
    return exchanging;
  }

  async #renew(hash: string, token: string, client: string): Promise<Exchanged> {
    this.#limit.check(client);
    const response = await this.#whenPermitted(() => this.exchange(token, client));
    if (response === undefined) {
      this.#accepted.delete(hash);
      remember(this.#rejected, hash, this.now() + REJECTED_MAX_AGE_MS, this.maxRejected);
      throw TokenError.invalid();
    }
    const exchanged = parse(response, this.names, this.now());
    remember(this.#accepted, hash, exchanged, this.maxAccepted);
    return exchanged;
  }

  /** Runs an exchange, after others if there are too many. */
  async #whenPermitted<T>(run: () => Promise<T>): Promise<T> {
    if (this.#running < MAX_EXCHANGES) this.#running++;
    else if (this.#waiting.length < MAX_WAITING) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else throw TokenError.noExchange();
    try {
      return await run();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next();
    }
  }
}

/** Returns a function that exchanges tokens at auth-service, and one that closes its connection. */
export function remoteExchange(
  url: string,
  tls: SecureClientSessionOptions,
  credential: () => Promise<string | undefined>,
): { exchange: Exchange; close: () => void } {
  // Pings find connections whose peer has disappeared.
  const pings = { pingIntervalMs: 10_000, pingTimeoutMs: 1_000 };
  const sessionManager = new Http2SessionManager(url, pings, tls);
  const client = createClient(TokenService, createGrpcTransport({ baseUrl: url, sessionManager }));
  const exchange = async (token: string, clientAddress: string) => {
    const bearer = await credential();
    const headers: HeadersInit = bearer === undefined ? {} : { authorization: `Bearer ${bearer}` };
    const options = { headers, timeoutMs: EXCHANGE_TIMEOUT_MS };
    return client.exchangePersonalAccessToken({ token, clientAddress }, options).catch((error: unknown) => {
      if (error instanceof ConnectError && error.code === Code.NotFound) return undefined;
      throw TokenError.noExchange();
    });
  };
  return { exchange, close: () => sessionManager.abort() };
}

/** Reports whether a token has the format and the checksum of a personal access token. */
function hasValidFormat(token: string): boolean {
  const [, body, checksum] = FORMAT.exec(token) ?? [];
  return body !== undefined && checksum === crc32(body).toString(16).padStart(8, "0");
}

/** Returns the CRC-32 of zip, PNG and Ethernet. `crc32` of `node:zlib` needs Node.js 22. */
function crc32(text: string): number {
  let crc = 0xffffffff;
  for (const byte of Buffer.from(text)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1));
  }
  return ~crc >>> 0;
}

function permits({ networks }: Exchanged, client = ""): boolean {
  if (networks === undefined) return true;
  const address = client.replace(/^::ffff:(?=\d+\.)/i, "");
  const version = isIP(address);
  return version !== 0 && networks.check(address, version === 6 ? "ipv6" : "ipv4");
}

/** Adds an entry. If there are too many, the oldest one is removed. */
function remember<T>(entries: Map<string, T>, hash: string, entry: T, maximum: number): void {
  entries.delete(hash);
  entries.set(hash, entry);
  const [oldest] = entries.size > maximum ? entries.keys() : [];
  if (oldest !== undefined) entries.delete(oldest);
}

/** Parses a response. Its times are those of another clock, so the claims are remembered for a duration. */
function parse(response: ExchangePersonalAccessTokenResponse, names: Names, now: number): Exchanged {
  const { sub, sid, jti, roles, scope, networks, expireTime, tokenExpireTime } = response;
  if (![sub, sid, jti].every((id) => UUID.test(id)) || !expireTime || !tokenExpireTime) throw TokenError.noExchange();
  const [iat, exp] = [Math.floor(Date.now() / 1000), Number(tokenExpireTime.seconds)];
  const { issuer: iss, audience: aud } = names;
  return {
    claims: { iss, aud, sub, sid, jti, iat, exp, roles, scopes: parseScopes(scope), isPersonalAccessToken: true },
    networks: networks.length === 0 ? undefined : parseNetworks(networks),
    until: now + Math.min(timestampMs(expireTime) - Date.now(), MAX_AGE_MS),
  };
}

function parseNetworks(networks: string[]): BlockList {
  const list = new BlockList();
  for (const network of networks) {
    const [address = "", length = ""] = network.split("/");
    list.addSubnet(address, Number(length), isIP(address) === 6 ? "ipv6" : "ipv4");
  }
  return list;
}
