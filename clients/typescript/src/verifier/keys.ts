import { Point } from "@noble/ed25519";
import { importJWK, type CryptoKey, type JWK } from "jose";

/** The key of access tokens. Its algorithm is fixed, so that a token cannot choose another (RFC 8725, section 3.1). */
export interface Key {
  id: string;
  algorithm: "HS256" | "EdDSA";
  verifying: CryptoKey | Uint8Array;
  /** Undefined if only the public half is available. */
  signing: CryptoKey | Uint8Array | undefined;
}

/** The keys of access tokens, by their `kid`. The first one signs. */
export type KeySet = ReadonlyMap<string, Key>;

/**
 * Imports a JWK Set (RFC 7517). Expired keys are left out.
 *
 * @throws if it is not a JWK Set of usable keys with distinct ids: `oct` with at least 32 bytes, or `OKP` on Ed25519.
 */
export async function importKeys(jwkSet: unknown, nowMs: number): Promise<KeySet> {
  const keys = new Map<string, Key>();
  const { keys: jwks } = (jwkSet ?? {}) as { keys?: (JWK & { exp?: number })[] };
  if (!Array.isArray(jwks)) throw new Error("not a JWK Set (RFC 7517)");
  for (const jwk of jwks) {
    const key = await importKey(jwk);
    if (keys.has(key.id)) throw new Error("two keys have the same kid");
    if (jwk.exp === undefined || jwk.exp * 1000 > nowMs) keys.set(key.id, key);
  }
  if (keys.size === 0) throw new Error("the JWK Set contains no key");
  return keys;
}

async function importKey(jwk: JWK): Promise<Key> {
  const algorithm = jwk.kty === "oct" ? "HS256" : "EdDSA";
  const id = jwk.kid ?? "";
  if (id === "" || Buffer.byteLength(id) > 128) throw new Error("kid must have 1 to 128 bytes");
  if ((jwk.use ?? "sig") !== "sig") throw new Error('use must be "sig"');
  if ((jwk.alg ?? algorithm) !== algorithm) throw new Error(`alg must be "${algorithm}"`);
  if (jwk.kty === "oct") {
    const secret = Buffer.from(jwk.k ?? "", "base64url");
    if (secret.length < 32) throw new Error("k must have at least 32 bytes");
    return { id, algorithm, verifying: secret, signing: secret };
  }
  if (jwk.kty !== "OKP" || jwk.crv !== "Ed25519" || !jwk.x) {
    throw new Error('a key must have kty "oct", or kty "OKP" and crv "Ed25519"');
  }
  if (!isSafePoint(jwk.x)) throw new Error("x is not a valid Ed25519 public key");
  const publicJwk = { kty: "OKP", crv: "Ed25519", x: jwk.x };
  const signing = jwk.d === undefined ? undefined : await importJWK({ ...publicJwk, d: jwk.d }, algorithm);
  return { id, algorithm, verifying: await importJWK(publicJwk, algorithm), signing };
}

/**
 * Rejects public keys that are invalid, and those for which signatures can be forged without the private key: the point
 * must be on the curve, canonically encoded, not of small order, and in the prime-order subgroup.
 */
function isSafePoint(x: string): boolean {
  try {
    const point = Point.fromBytes(Buffer.from(x, "base64url"));
    return !point.isSmallOrder() && point.isTorsionFree();
  } catch {
    return false;
  }
}
