import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { exportJWK, generateKeyPair, importJWK, SignJWT, type JWK } from "jose";
import { startGrpcServer, startHttpServer } from "../conformance/verifiers.js";
import { Code, connect, TaskeyError, type Taskey } from "../src/node.js";
import { TokenError, Verifier, type VerifierOptions } from "../src/verifier/index.js";
import { delay, TestServer, until } from "./support.js";

let server: TestServer;

before(async () => {
  server = await TestServer.start();
});
after(() => server.remove());

/** Starts a verifier, and waits until it has received the revocations. */
async function startVerifier(options: Partial<VerifierOptions> = {}): Promise<Verifier> {
  const url = `http://${server.addresses.get("auth")!}`;
  const verifier = await Verifier.start({ url, keyFile: join(server.folder, "keys.json"), ...options });
  await until(() => verifier.state === "FRESH");
  return verifier;
}

async function login(): Promise<{ taskey: Taskey; token: string }> {
  const taskey = await server.client();
  return { taskey, token: (await taskey.accessToken())! };
}

async function reasonOf(verified: Promise<unknown>): Promise<string> {
  return verified.then(
    () => "",
    (error: unknown) => (error instanceof TokenError || error instanceof TaskeyError ? error.reason : String(error)),
  );
}

test("logouts are refused within a second", async () => {
  const verifier = await startVerifier();
  for (let round = 0; round < 5; round++) {
    const { taskey, token } = await login();
    const { sub } = await verifier.verify(token);
    assert.equal(sub, (await taskey.account.getMe({})).id);
    await taskey.logout();
    await until(async () => (await reasonOf(verifier.verify(token))) === "TOKEN_REVOKED", 1000);
    taskey.close();
  }
  verifier.close();
});

test("a logout that waits for verifiers is refused when it returns", async () => {
  const verifier = await startVerifier();
  const { taskey, token } = await login();
  const headers = { authorization: `Bearer ${token}` };
  const { acknowledgedVerifiers } = await taskey.auth.logout({ waitForVerifiers: true }, { headers });
  assert(acknowledgedVerifiers >= 1);
  assert.equal(await reasonOf(verifier.verify(token)), "TOKEN_REVOKED");
  taskey.close();
  verifier.close();
});

test("a gRPC server and an Express server refuse revoked tokens", async () => {
  const verifier = await startVerifier();
  const [grpcServer, grpc] = await startGrpcServer(verifier);
  const [httpServer, http] = await startHttpServer(verifier);
  const { taskey, token } = await login();
  const { id } = await taskey.account.getMe({});
  const client = connect({ url: `http://${grpc}`, credentials: { accessToken: token } });
  const get = (headers: HeadersInit) => fetch(`http://${http}/any`, { headers });
  assert.equal((await client.tasks.getTask({ id: "x" })).id, id);
  assert.deepEqual(await (await get({ authorization: `bearer ${token}` })).json(), { sub: id });
  await taskey.logout();
  await until(async () => (await reasonOf(verifier.verify(token))) === "TOKEN_REVOKED");
  const call = client.tasks.getTask({ id: "x" }, { headers: { "x-request-id": "call" } });
  const error: unknown = await call.catch((error: unknown) => error);
  assert(error instanceof TaskeyError);
  assert.deepEqual([error.code, error.reason, error.requestId], [Code.Unauthenticated, "TOKEN_REVOKED", "call"]);
  const refused = await get({ authorization: `Bearer ${token}`, "x-request-id": "request" });
  assert.deepEqual([refused.status, refused.headers.get("www-authenticate")], [401, 'Bearer error="invalid_token"']);
  assert.deepEqual(await refused.json(), {
    error: {
      code: 401,
      status: "UNAUTHENTICATED",
      message: "the session of the access token has ended",
      details: [
        { "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason: "TOKEN_REVOKED", domain: "taskey" },
        { "@type": "type.googleapis.com/google.rpc.RequestInfo", requestId: "request" },
      ],
    },
  });
  const reason = async (headers: Record<string, string>) => {
    const response = await get({ ...headers, "x-request-id": "two words" });
    const { error } = (await response.json()) as { error: { details: [{ reason: string }, { requestId: string }] } };
    assert.match(error.details[1].requestId, /^[0-9a-f-]{36}$/);
    return error.details[0].reason;
  };
  assert.equal(await reason({}), "TOKEN_MISSING");
  assert.equal(await reason({ authorization: `Basic ${token}` }), "TOKEN_INVALID");
  assert.equal(await reason({ authorization: token }), "TOKEN_INVALID");
  for (const closing of [grpcServer, httpServer]) closing.close();
  client.close();
  taskey.close();
  verifier.close();
});

test("without the feed, the verifier becomes stale and then refuses with UNAVAILABLE", async () => {
  const verifier = await startVerifier({ maxStalenessMs: 5000 });
  const [grpcServer, grpc] = await startGrpcServer(verifier);
  const { taskey, token } = await login();
  taskey.close();
  await server.stop();
  await until(() => verifier.state === "STALE");
  await verifier.verify(token);
  await until(() => verifier.state === "EXPIRED");
  assert.equal(await reasonOf(verifier.verify(token)), "VERIFIER_NOT_READY");
  const client = connect({ url: `http://${grpc}`, credentials: { accessToken: token } });
  const error: unknown = await client.tasks.getTask({ id: "x" }).catch((error: unknown) => error);
  assert(error instanceof TaskeyError);
  assert.deepEqual([error.code, error.reason, error.retryAfterMs], [Code.Unavailable, "VERIFIER_NOT_READY", 1000]);
  const cold = await Verifier.start(verifier.options);
  assert.deepEqual([cold.state, await reasonOf(cold.verify(token))], ["COLD", "VERIFIER_NOT_READY"]);
  await server.start();
  await until(() => verifier.state === "FRESH" && cold.state === "FRESH", 3000);
  await verifier.verify(token);
  client.close();
  grpcServer.close();
  cold.close();
  verifier.close();
});

test("keys can be rotated while the verifier runs", async () => {
  const file = join(server.folder, "keys.json");
  const verifier = await startVerifier();
  const old = await login();
  const { keys } = JSON.parse(readFileSync(file, "utf8")) as { keys: object[] };
  const rotated = {
    kty: "oct",
    kid: "rotated",
    k: Buffer.from("another key of thirty-two bytes.").toString("base64url"),
  };
  writeFileSync(file, JSON.stringify({ keys: [...keys, rotated] }));
  await delay(5500);
  writeFileSync(file, JSON.stringify({ keys: [rotated, ...keys] }));
  await delay(5500);
  const next = await login();
  assert.match(Buffer.from(next.token.split(".")[0]!, "base64url").toString(), /rotated/);
  await verifier.verify(old.token);
  await verifier.verify(next.token);
  writeFileSync(file, "not JSON");
  await delay(2500);
  await verifier.verify(next.token);
  writeFileSync(file, JSON.stringify({ keys: [rotated, ...keys] }));
  for (const { taskey } of [old, next]) taskey.close();
  verifier.close();
});

test("public keys are received with the feed", async () => {
  const server = new TestServer();
  const file = join(server.folder, "keys.json");
  const write = (...keys: JWK[]) => writeFileSync(file, JSON.stringify({ keys }), { mode: 0o600 });
  const [first, second] = [await createPair("first"), await createPair("second")];
  write(first);
  await server.start();
  const taskey = await server.client();
  const token = (await taskey.accessToken())!;
  const url = `http://${server.addresses.get("auth")!}`;
  // Any token that permits the feed is accepted as a service token.
  const serviceToken = await new SignJWT({ sid: randomUUID(), roles: ["verifier"] })
    .setProtectedHeader({ alg: "EdDSA", kid: "first", typ: "at+jwt" })
    .setIssuer("taskey")
    .setAudience("taskey")
    .setSubject(randomUUID())
    .setJti(randomUUID())
    .setIssuedAt()
    .setExpirationTime("10m")
    .sign(await importJWK(first, "EdDSA"));
  const verifier = await Verifier.start({ url, serviceToken });
  await until(() => verifier.state === "FRESH");
  await verifier.verify(token);
  const next = await server.signUp();
  write(first, second);
  await delay(5500);
  write(second, first);
  await delay(5500);
  const other = server.connect(next);
  const otherToken = (await other.accessToken())!;
  assert.match(Buffer.from(otherToken.split(".")[0]!, "base64url").toString(), /second/);
  await verifier.verify(otherToken);
  await verifier.verify(token);
  verifier.close();
  taskey.close();
  other.close();
  await server.remove();
});

async function createPair(kid: string): Promise<JWK> {
  const pair = await generateKeyPair("EdDSA", { extractable: true });
  const { x, d } = await exportJWK(pair.privateKey);
  return { kty: "OKP", crv: "Ed25519", kid, x, d };
}
