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
/** Longer tokens are refused before they are decoded. */
const MAX_TOKEN_BYTES = 4096;

const HEADER = ["alg", "kid", "typ"];
const CLAIMS = ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "nbf", "roles"];
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

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
  const roles = JSON.parse(values.get("roles") ?? "null") as unknown;
  const isRole = (role: unknown) => typeof role === "string" && role.isWellFormed();
  if (!Array.isArray(roles) || !roles.every(isRole)) throw new Error("roles must be a list of strings");
  const notBefore = values.has("nbf") ? Math.max(iat, parseInteger(values.get("nbf"))) : iat;
  const claims = {
    iss: parseString(values.get("iss")),
    aud: parseString(values.get("aud")),
    sub: parseId(values.get("sub")),
    sid: parseId(values.get("sid")),
    jti: parseId(values.get("jti")),
    iat,
    exp,
    roles: roles as string[],
  };
  return { claims, notBefore };
}

function parseId(json?: string): string {
  const id = parseString(json);
  if (!UUID.test(id)) throw new Error("not a UUID with hyphens");
  return id.toLowerCase();
}
