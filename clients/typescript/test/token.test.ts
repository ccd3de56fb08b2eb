import assert from "node:assert/strict";
import { createHmac, createPrivateKey, createPublicKey, sign } from "node:crypto";
import { before, test } from "node:test";
import { Point } from "@noble/ed25519";
import {
  importKeys,
  requireFresh,
  requireScope,
  TokenError,
  verifyToken,
  type Actor,
  type KeySet,
} from "../src/verifier/index.js";

const NOW = 1_800_000_000;
const SECRET = Buffer.from("thirty-two bytes to sign a token");
const SEED = Buffer.from("and thirty-two more for Ed25519.");
const PRIVATE_KEY = createPrivateKey({
  key: Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), SEED]),
  format: "der",
  type: "pkcs8",
});
const X = createPublicKey(PRIVATE_KEY).export({ format: "jwk" }).x!;
const JWKS = {
  keys: [
    { kty: "oct", kid: "shared", k: SECRET.toString("base64url") },
    { kty: "OKP", crv: "Ed25519", kid: "pair", x: X, d: SEED.toString("base64url") },
  ],
};
const NAMES = { issuer: "taskey", audience: "taskey" };
const HEADER = { alg: "HS256", kid: "shared", typ: "at+jwt" };
const PAIR_HEADER = { alg: "EdDSA", kid: "pair", typ: "at+jwt" };
const CLAIMS = {
  iss: "taskey",
  aud: "taskey",
  iat: NOW - 10,
  exp: NOW + 290,
  roles: [] as unknown[],
  sub: "01890a5d-ac96-774b-bcce-b302099a8057",
  sid: "01890a5d-ac96-774b-bcce-b302099a8058",
  jti: "01890a5d-ac96-774b-bcce-b302099a8059",
};
type Json = string | object;

let keys: KeySet;

before(async () => {
  keys = await importKeys(JWKS, NOW * 1000);
});

const encode = (part: Json | Buffer) =>
  Buffer.from(part instanceof Buffer || typeof part === "string" ? part : JSON.stringify(part)).toString("base64url");
const message = (header: Json, claims: Json | Buffer) => `${encode(header)}.${encode(claims)}`;
const hmac = (text: string) => `${text}.${createHmac("sha256", SECRET).update(text).digest("base64url")}`;
const pairSigned = (text: string) => `${text}.${sign(null, Buffer.from(text), PRIVATE_KEY).toString("base64url")}`;
const signed = (header: Json, claims: Json | Buffer) => hmac(message(header, claims));

async function reasonOf(token: string): Promise<string> {
  return verifyToken(keys, NAMES, token, NOW * 1000).then(
    () => "",
    (error: unknown) => (error instanceof TokenError ? error.reason : String(error)),
  );
}

async function assertRefused(tokens: string[]): Promise<void> {
  for (const token of tokens) assert.equal(await reasonOf(token), "TOKEN_INVALID", token.slice(0, 300));
}

test("valid tokens are accepted", async () => {
  const claims = await verifyToken(keys, NAMES, signed(HEADER, CLAIMS), NOW * 1000);
  assert.deepEqual(claims, CLAIMS);
  assert.equal(await reasonOf(pairSigned(message(PAIR_HEADER, CLAIMS))), "");
  const unknown = { ...CLAIMS, more: "a b", other: { sub: ["x", { sid: 1 }] }, nbf: NOW + 5, roles: ["admin"] };
  assert.equal(await reasonOf(signed(HEADER, unknown)), "");
  assert.equal(await reasonOf(signed(HEADER, `${JSON.stringify(CLAIMS)} \n`)), "");
  const twice = JSON.stringify(CLAIMS).replace("}", ',"x":1,"x":2}');
  assert.equal(await reasonOf(signed(HEADER, twice)), "", "unknown claims are ignored");
});

test("absent or invalid claims are refused", async () => {
  const values = [null, true, {}, [], [[]], [null], [1], "", "x", 0, -1, -1.5, 1e300, { taskey: "taskey" }];
  for (const name of Object.keys(CLAIMS)) {
    const { [name as keyof typeof CLAIMS]: value, ...others } = CLAIMS;
    await assertRefused([signed(HEADER, others)]);
    const invalid = name === "roles" ? values.filter((value) => JSON.stringify(value) !== "[]") : values;
    await assertRefused([...invalid, [value], { value }].map((value) => signed(HEADER, { ...CLAIMS, [name]: value })));
  }
  await assertRefused(
    ["null", '"1"', "1.5", "[1]", `${NOW + 6}`, "9223372036854775807", "18446744073709551615"].map((nbf) =>
      signed(HEADER, JSON.stringify(CLAIMS).replace("}", `,"nbf":${nbf}}`)),
    ),
  );
  for (const iss of ["Taskey", "taskey ", "taskey\0", "taskey,other", "t\u0430skey", "taske", "*"]) {
    await assertRefused([signed(HEADER, { ...CLAIMS, iss }), signed(HEADER, { ...CLAIMS, aud: iss })]);
  }
  const { sub: id } = CLAIMS;
  for (const other of [
    id.replaceAll("-", ""),
    `{${id}}`,
    `urn:uuid:${id}`,
    `${id}\n`,
    ` ${id}`,
    `${id}0`,
    id.slice(1),
  ]) {
    await assertRefused(["sub", "sid", "jti"].map((name) => signed(HEADER, { ...CLAIMS, [name]: other })));
  }
  for (const roles of ["admin", { 0: "admin" }, ["admin", 1], ["admin", null], ["\ud800"]]) {
    await assertRefused([signed(HEADER, { ...CLAIMS, roles })]);
  }
});

test("times must be integers, current, and at most 15 minutes apart", async () => {
  for (const name of ["iat", "exp"] as const) {
    const valid = CLAIMS[name];
    const texts = [`${valid}.0`, `${valid}.5`, `${valid}e0`, `${valid}000`, `"${valid}"`, `-${valid}`, "1e999", "-0"];
    const claims = texts.map((text) => JSON.stringify(CLAIMS).replace(`"${name}":${valid}`, `"${name}":${text}`));
    await assertRefused(claims.map((claims) => signed(HEADER, claims)));
  }
  const at = (iat: number, exp: number) => signed(HEADER, { ...CLAIMS, iat: NOW + iat, exp: NOW + exp });
  await assertRefused([at(6, 100), at(-10, 891), at(10, 10), at(0, -1)]);
  assert.equal(await reasonOf(at(5, 100)), "");
  assert.equal(await reasonOf(at(-300, -4)), "");
  assert.equal(await reasonOf(at(-300, -5)), "TOKEN_EXPIRED");
  const expired = { ...CLAIMS, iat: NOW - 400, exp: NOW - 100 };
  await assertRefused([signed(HEADER, { ...expired, aud: "x" }), `${message(HEADER, expired)}.`]);
});

test("unexpected headers are refused", async () => {
  const others: object[] = [
    { jwk: JWKS.keys[1] },
    { jku: "http://127.0.0.1/" },
    { crit: ["exp"] },
    { crit: null },
    { b64: true },
    { b64: false, crit: ["b64"] },
    { zip: "DEF" },
    { "": "" },
    { ALG: "none" },
    { x5c: [] },
  ];
  const values = [
    null,
    true,
    0,
    ["shared"],
    { x: "at+jwt" },
    "",
    "x",
    "shared ",
    "SHARED",
    "__proto__",
    "JWT",
    "AT+JWT",
  ];
  for (const value of values) others.push({ alg: value }, { kid: value }, { typ: value });
  for (const alg of ["none", "NONE", "HS384", "HS512", "RS256", "hs256", "Ed25519", "EdDSA"]) others.push({ alg });
  await assertRefused(others.map((other) => signed({ ...HEADER, ...other }, CLAIMS)));
  await assertRefused(others.map((other) => pairSigned(message({ ...PAIR_HEADER, ...other, alg: "HS256" }, CLAIMS))));
  const text = JSON.stringify(HEADER);
  const headers = ["", "{", "{}", "[]", "null", `\u{feff}${text}`, ` ${text}`, `${text}x`, text + text];
  headers.push(text.replace("}", ',"alg":"HS256"}'), text.replace("}", ',"\\u0061lg":"HS256"}'));
  headers.push(JSON.stringify([HEADER]), JSON.stringify(text), JSON.stringify(["HS256", "shared", "at+jwt"]));
  await assertRefused(headers.map((header) => signed(header, CLAIMS)));
});

test("payloads must be JSON objects without duplicate claims", async () => {
  const text = JSON.stringify(CLAIMS);
  const payloads = ["", "{", "{}", "[]", "null", '"x"', `\u{feff}${text}`, `${text}x`, `${text}\0`, text + text];
  payloads.push(text.replaceAll('"', "'"), text.replace("}", ",}"), `/**/${text}`, JSON.stringify([CLAIMS]));
  payloads.push(text.replace("}", ',"sub":"x"}'), text.replace("{", `{"\\u0073ub":"${CLAIMS.sub}",`));
  payloads.push(JSON.stringify(text), signed(HEADER, CLAIMS));
  await assertRefused(payloads.map((payload) => signed(HEADER, payload)));
  const notUtf8 = Buffer.concat([
    Buffer.from(text.slice(0, -1)),
    Buffer.from(',"x":"'),
    Buffer.from([0xff, 0x22, 0x7d]),
  ]);
  await assertRefused([signed(HEADER, notUtf8)]);
});

test("signatures of other keys and algorithms are refused", async () => {
  const withHmac = (secret: string | Buffer, header: object, hash = "sha256") => {
    const text = message(header, CLAIMS);
    return `${text}.${createHmac(hash, secret).update(text).digest("base64url")}`;
  };
  for (const secret of [X, Buffer.from(X, "base64url"), "", SEED]) {
    await assertRefused([
      withHmac(secret, HEADER),
      withHmac(secret, PAIR_HEADER),
      withHmac(secret, PAIR_HEADER, "sha512"),
    ]);
  }
  await assertRefused([pairSigned(message(HEADER, CLAIMS)), signed(PAIR_HEADER, CLAIMS)]);
  for (const token of [signed(HEADER, CLAIMS), pairSigned(message(PAIR_HEADER, CLAIMS))]) {
    const [text, signature] = [token.slice(0, token.lastIndexOf(".")), token.slice(token.lastIndexOf(".") + 1)];
    const bytes = Buffer.from(signature, "base64url");
    const changed = [Buffer.alloc(0), Buffer.alloc(bytes.length), bytes.subarray(1), Buffer.concat([bytes, bytes])];
    for (let bit = 0; bit < bytes.length * 8; bit += 5) {
      const copy = Buffer.from(bytes);
      copy[bit >> 3]! ^= 1 << (bit & 7);
      changed.push(copy);
    }
    await assertRefused(changed.map((signature) => `${text}.${signature.toString("base64url")}`));
  }
});

test("an Ed25519 signature is not malleable", async () => {
  const order = 2n ** 252n + 27742317777372353535851937790883648493n;
  const token = pairSigned(message(PAIR_HEADER, CLAIMS));
  const text = token.slice(0, token.lastIndexOf("."));
  const signature = Buffer.from(token.slice(text.length + 1), "base64url");
  const s = BigInt(`0x${Buffer.from(signature.subarray(32)).reverse().toString("hex")}`) + order;
  Buffer.from(s.toString(16).padStart(64, "0"), "hex").reverse().copy(signature, 32);
  await assertRefused([`${text}.${signature.toString("base64url")}`]);
});

test("base64url is decoded strictly", async () => {
  const valid = signed(HEADER, CLAIMS);
  const parts = message(`${JSON.stringify(HEADER)} `, { ...CLAIMS, x: "~~~???>>>~~?" }).split(".") as [string, string];
  for (const change of ["=", "==", "A", "\n", " ", "\0", "%3D", "\u{feff}"]) {
    await assertRefused([
      hmac(`${parts[0]}${change}.${parts[1]}`),
      hmac(`${change}${parts[0]}.${parts[1]}`),
      hmac(`${parts[0]}.${parts[1]}${change}`),
      valid + change,
      change + valid,
    ]);
  }
  await assertRefused([hmac(`${parts[0]}.${parts[1].replaceAll("-", "+").replaceAll("_", "/")}`)]);
  // Other encodings of the same bytes differ only in unused bits.
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const bytes = Buffer.from(valid.slice(valid.lastIndexOf(".") + 1), "base64url");
  const equivalent = Array.from(alphabet, (last) => valid.slice(0, -1) + last).filter((token) => token !== valid);
  const same = equivalent.filter((token) =>
    Buffer.from(token.slice(token.lastIndexOf(".") + 1), "base64url").equals(bytes),
  );
  assert(same.length > 0);
  await assertRefused(same);
});

test("other shapes are refused", async () => {
  const valid = signed(HEADER, CLAIMS);
  const parts = valid.split(".");
  const shapes = [
    "",
    ".",
    "..",
    "...",
    parts[0]!,
    parts.slice(0, 2).join("."),
    `${valid}.`,
    `.${valid}`,
    `${valid}.${valid}`,
  ];
  shapes.push([parts[1], parts[0], parts[2]].join("."), "A".repeat(16384), ".".repeat(16384), `Bearer ${valid}`);
  shapes.push(JSON.stringify({ protected: parts[0], payload: parts[1], signature: parts[2] }));
  await assertRefused(shapes);
  const withLength = (length: number) => {
    for (let filling = 0; ; filling++) {
      const token = signed(HEADER, { ...CLAIMS, x: "x".repeat(filling) });
      if (token.length >= length) return token;
    }
  };
  assert.equal(await reasonOf(withLength(4090)), "");
  await assertRefused([withLength(4097)]);
});

test("unusable key sets are refused", async () => {
  const [shared, pair] = JWKS.keys as [object, object];
  const sets = [null, [], {}, { keys: [] }, { keys: [shared, shared] }, { keys: [{ ...shared, exp: NOW }] }];
  const changes: [object, object][] = [
    [shared, { k: "c2hvcnQ" }],
    [shared, { alg: "HS512" }],
    [shared, { use: "enc" }],
    [shared, { kid: "" }],
    [shared, { kid: "k".repeat(129) }],
    [pair, { crv: "X25519" }],
    [pair, { alg: "ES256" }],
    [pair, { x: undefined }],
    [pair, { kty: "EC" }],
  ];
  for (const set of [...sets, ...changes.map(([key, change]) => ({ keys: [{ ...key, ...change }] }))]) {
    await assert.rejects(importKeys(set, NOW * 1000), JSON.stringify(set));
  }
});

test("public keys outside of the subgroup of prime order are refused", async () => {
  const importPoint = (x: Uint8Array) => {
    const key = { kty: "OKP", crv: "Ed25519", kid: "pair", x: Buffer.from(x).toString("base64url") };
    return importKeys({ keys: [key] }, NOW * 1000);
  };
  await importPoint(Point.BASE.toBytes());
  const smallOrder = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
  ];
  const notOnTheCurve = "0200000000000000000000000000000000000000000000000000000000000000";
  const notCanonical = [
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
  ];
  const mixedOrder = Point.BASE.add(Point.fromHex(smallOrder[4]!)).toHex();
  for (const hexadecimal of [...smallOrder, notOnTheCurve, ...notCanonical, mixedOrder, "00"]) {
    await assert.rejects(importPoint(Buffer.from(hexadecimal, "hex")), /not a valid Ed25519 public key/, hexadecimal);
  }
});

test("optional claims are returned", async () => {
  const act = { sub: CLAIMS.sub, sid: CLAIMS.jti, act: { sub: CLAIMS.sid } };
  const optional = { amr: ["pwd", "otp"], auth_time: NOW - 60, act };
  const token = signed(HEADER, { ...CLAIMS, ...optional, scope: "tasks.read x" });
  const claims = await verifyToken(keys, NAMES, token, NOW * 1000);
  assert.deepEqual(claims, { ...CLAIMS, ...optional, scopes: ["tasks.read", "x"] });
  requireScope(claims, "x");
  assert.throws(() => requireScope(claims, "tasks.write"), { reason: "SCOPE_MISSING", requiredScope: "tasks.write" });
  assert.throws(() => requireScope(claims), { reason: "SCOPE_MISSING" });
  requireScope(await verifyToken(keys, NAMES, signed(HEADER, CLAIMS), NOW * 1000), "tasks.write");
});

test("optional claims of another type are refused", async () => {
  const { sub } = CLAIMS;
  const values = {
    scope: [null, "", " ", "tasks.read ", "tasks.read  x", "x x", 'a"b', "a\\b", "naïve", 1, ["tasks.read"]],
    amr: [null, "pwd", [1], [null], {}],
    auth_time: [null, "1", 1.5, [1], NOW],
    act: [null, "x", {}, { sub: null }, { sub: "x" }, { sub, act: "x" }, { sub, sid: null }, { sub, sid: "x" }, []],
  };
  for (const [name, invalid] of Object.entries(values)) {
    await assertRefused(invalid.map((value) => signed(HEADER, { ...CLAIMS, [name]: value })));
  }
  const act = { sub, act: { sub, act: { sub, act: { sub } } } };
  await assertRefused([signed(HEADER, { ...CLAIMS, act })]);
});

test("users must have proved a factor recently", async () => {
  const claims = await verifyToken(keys, NAMES, signed(HEADER, CLAIMS), NOW * 1000);
  const require = (authTime?: number, scopes?: string[], act?: Actor) =>
    requireFresh({ ...claims, auth_time: authTime, scopes, act }, 600, NOW * 1000);
  const [scope, service] = [["tasks.read"], { sub: CLAIMS.sub }];
  require(NOW);
  require(NOW - 605);
  require(undefined, scope);
  require(NOW - 605, scope, service);
  const refused: Parameters<typeof require>[] = [
    [NOW - 606],
    [NOW - 606, scope],
    [],
    [NOW - 606, scope, service],
    [undefined, scope, service],
  ];
  for (const parameters of refused) {
    assert.throws(() => require(...parameters), { reason: "STEP_UP_REQUIRED", maxAge: 600 });
  }
  const { status, headers } = TokenError.stepUpRequired(600).toHttp();
  const challenge = 'Bearer error="insufficient_user_authentication", max_age="600"';
  assert.deepEqual([status, headers], [403, { "www-authenticate": challenge }]);
});
