import { compactVerify } from "jose";
import { TokenError } from "./error.js";
import { parseInteger, parseObject, parseString } from "./json.js";
import type { Key, KeySet } from "./keys.js";

/** The claims of an access token (RFC 9068). */
export interface Claims {
  iss: string;
  aud: string;
  /** The id of the user. */
  sub: string;
  /** The id of the session. */
  sid: string;
  jti: string;
  /** Seconds since the Unix epoch. */
  iat: number;
  exp: number;
  roles: string[];
  /** What the token permits: the claim `scope`. Without it, the token permits all that the roles do. */
  scopes?: string[];
  /** How the user logged in (RFC 8176), such as `pwd` and `otp`. */
  amr?: string[];
  /** When the user last proved who they are, in seconds since the Unix epoch. */
  auth_time?: number;
  /** The service that acts for the user. */
  act?: Actor;
  /** Whether the token is a personal access token: `jti` is its id, and `iat` is when it was exchanged. */
  isPersonalAccessToken?: boolean;
}

/** A service that acts for the user of a token (RFC 8693, section 4.1). */
export interface Actor {
  /** The id of the service. */
  sub: string;
  /** The id of the session of the service, after whose end the token is refused. */
  sid?: string;
  /** The service for which this one acts in turn. */
  act?: Actor;
}

/**
 * Checks that a token has a scope, such as `tasks.read`. Without a name, tokens with scopes are refused.
 *
 * @throws TokenError with the reason SCOPE_MISSING.
 */
export function requireScope(claims: Claims, scope?: string): void {
  if (claims.scopes === undefined || (scope !== undefined && claims.scopes.includes(scope))) return;
  throw TokenError.scopeMissing(scope);
}

/**
 * Checks that the user has proved the password or a second factor at most so many seconds ago. The tokens of programs, which
 * have scopes, no `auth_time` and no `act`, are exempt. After this error, the client of the user calls
 * `AccountService.Reauthenticate`, and repeats the call with the new token.
 *
 * @throws TokenError with the reason STEP_UP_REQUIRED.
 */
export function requireFresh(claims: Claims, maxAge: number, nowMs = Date.now()): void {
  const { auth_time: time, scopes, act } = claims;
  const isProgram = scopes !== undefined && act === undefined;
  const isFresh = time === undefined ? isProgram : nowMs - time * 1000 <= maxAge * 1000 + LEEWAY_MS;
  if (!isFresh) throw TokenError.stepUpRequired(maxAge);
}

/** The issuer and the audience that tokens must have. */
export interface Names {
  issuer: string;
  audience: string;
}

/** Tolerated difference between the clocks of two machines. */
export const LEEWAY_MS = 5_000;
/** Maximum lifetime of access tokens. */
export const MAX_LIFETIME_MS = 15 * 60_000;
/** Maximum number of services that act for a user one after another. */
const MAX_ACTORS = 3;
/** Longer tokens are refused before they are decoded. */
const MAX_TOKEN_BYTES = 4096;

const HEADER = ["alg", "kid", "typ"];
const ACTOR = ["sub", "sid", "act"];
const OPTIONAL_CLAIMS = ["scope", "amr", "auth_time", "act"];
const CLAIMS = ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "nbf", "roles", ...OPTIONAL_CLAIMS];
const SCOPES = /^[!#-[\]-~]+( [!#-[\]-~]+)*$/;
export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/**
 * Verifies the format, the signature and every claim of an access token. Does not check whether its session was revoked.
 *
 * @throws TokenError with the reason TOKEN_INVALID or, if the token is otherwise valid, TOKEN_EXPIRED.
 */
export async function verifyToken(keys: KeySet, names: Names, token: string, nowMs = Date.now()): Promise<Claims> {
  let signed: { claims: Claims; notBefore: number };
  try {
    if (token.length > MAX_TOKEN_BYTES) throw new Error("the token is too long");
    const [header = "", payload = "", signature = "", ...rest] = token.split(".");
    if (rest.length > 0) throw new Error("the token has more than three parts");
    const key = findKey(keys, decode(header));
    decode(signature);
    await compactVerify(token, key.verifying, { algorithms: [key.algorithm] });
    signed = parseClaims(decode(payload));
    if (signed.claims.iss !== names.issuer || signed.claims.aud !== names.audience) throw new Error("other names");
    if (signed.notBefore > Math.floor((nowMs + LEEWAY_MS) / 1000)) throw new Error("the token is not valid yet");
  } catch (cause) {
    throw cause instanceof TokenError ? cause : TokenError.invalid();
  }
  if (hasExpired(signed.claims, nowMs)) throw TokenError.expired();
  return signed.claims;
}

/** Reports whether a token has expired, allowing for the leeway. */
export function hasExpired(claims: Claims, nowMs: number): boolean {
  return claims.exp * 1000 + LEEWAY_MS <= nowMs;
}

/** Decodes base64url without padding. Buffer ignores invalid characters and unused bits. */
function decode(part: string): Uint8Array {
  const bytes = Buffer.from(part, "base64url");
  if (bytes.toString("base64url") !== part) throw new Error("the token is not in base64url");
  return bytes;
}

/** Returns the key of a token. Members that are not expected, such as `crit` or `jwk`, are refused. */
function findKey(keys: KeySet, header: Uint8Array): Key {
  const { values, hasOthers } = parseObject(header, HEADER);
  const [alg, kid, typ] = HEADER.map((name) => parseString(values.get(name)));
  if (hasOthers) throw new Error("the header has unknown members");
  const key = keys.get(kid!);
  if (key === undefined) throw TokenError.keyUnknown();
  if (alg !== key.algorithm || typ !== "at+jwt") throw new Error("the token has another algorithm or type");
  return key;
}

function parseClaims(payload: Uint8Array): { claims: Claims; notBefore: number } {
  const { values } = parseObject(payload, CLAIMS);
  const [iat, exp] = [parseInteger(values.get("iat")), parseInteger(values.get("exp"))];
  if (exp <= iat || (exp - iat) * 1000 > MAX_LIFETIME_MS) throw new Error("the lifetime is invalid");
  const optional = parseOptional(values);
  if (optional.auth_time !== undefined && optional.auth_time > iat) throw new Error("the time is in the future");
  const notBefore = values.has("nbf") ? Math.max(iat, parseInteger(values.get("nbf"))) : iat;
  const claims = {
    iss: parseString(values.get("iss")),
    aud: parseString(values.get("aud")),
    sub: parseId(values.get("sub")),
    sid: parseId(values.get("sid")),
    jti: parseId(values.get("jti")),
    iat,
    exp,
    roles: parseStrings(values.get("roles")),
    ...optional,
  };
  return { claims, notBefore };
}

/** Parses the claims that not all tokens have. */
function parseOptional(values: Map<string, string>): Pick<Claims, "scopes" | "amr" | "auth_time" | "act"> {
  return {
    ...(values.has("scope") && { scopes: parseScopes(parseString(values.get("scope"))) }),
    ...(values.has("amr") && { amr: parseStrings(values.get("amr")) }),
    ...(values.has("auth_time") && { auth_time: parseInteger(values.get("auth_time")) }),
    ...(values.has("act") && { act: parseActor(values.get("act")!) }),
  };
}

/** Parses names that are separated by single spaces, none of them twice (RFC 6749, section 3.3). */
export function parseScopes(text: string): string[] {
  const scopes = text.split(" ");
  if (!SCOPES.test(text) || new Set(scopes).size < scopes.length) throw new Error("not a list of scopes");
  return scopes;
}

function parseActor(json: string, maximum = MAX_ACTORS): Actor {
  if (maximum === 0) throw new Error("too many services act for the user");
  const { values } = parseObject(Buffer.from(json), ACTOR);
  return {
    sub: parseId(values.get("sub")),
    ...(values.has("sid") && { sid: parseId(values.get("sid")) }),
    ...(values.has("act") && { act: parseActor(values.get("act")!, maximum - 1) }),
  };
}

function parseStrings(json = "null"): string[] {
  const list = JSON.parse(json) as unknown;
  const isString = (element: unknown) => typeof element === "string" && element.isWellFormed();
  if (!Array.isArray(list) || !list.every(isString)) throw new Error("not a list of strings");
  return list as string[];
}

function parseId(json?: string): string {
  const id = parseString(json);
  if (!UUID.test(id)) throw new Error("not a UUID with hyphens");
  return id.toLowerCase();
}
