import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect as connectSocket, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createServer, type Server, type TlsOptions } from "node:tls";
import { Code, connect, TaskeyError, type ConnectOptions } from "../src/node.js";
import { TestServer } from "./support.js";

const folder = mkdtempSync(join(tmpdir(), "taskey-typescript-tls-"));
const file = (name: string) => join(folder, name);
const servers: Server[] = [];
let server: TestServer;

/** Creates a certificate that is signed by the authority `ca`, which is created first. */
function createCertificate(name: string): void {
  const openssl = (...args: string[]) => execFileSync("openssl", args, { stdio: "ignore" });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", file(`${name}.key`)];
  if (name === "ca") {
    openssl("req", "-x509", ...key, "-out", file("ca.pem"), "-days", "2", "-subj", "/CN=ca");
    return;
  }
  writeFileSync(file("san"), "subjectAltName=IP:127.0.0.1");
  openssl("req", ...key, "-out", file(`${name}.csr`), "-subj", `/CN=${name}`);
  const ca = ["-CA", file("ca.pem"), "-CAkey", file("ca.key"), "-CAcreateserial", "-extfile", file("san")];
  openssl("x509", "-req", "-in", file(`${name}.csr`), ...ca, "-days", "2", "-out", file(`${name}.pem`));
}

/** Starts a proxy that terminates TLS, and returns its address. */
async function terminateTls(options: TlsOptions): Promise<string> {
  const [host, port] = server.gateway.split(":");
  const certificate = { cert: readFileSync(file("server.pem")), key: readFileSync(file("server.key")) };
  const proxy = createServer({ ...certificate, ALPNProtocols: ["h2"], ...options }, (socket) => {
    const upstream = connectSocket(Number(port), host);
    socket.pipe(upstream).pipe(socket);
    for (const end of [socket, upstream]) end.on("error", () => undefined);
  });
  proxy.on("tlsClientError", () => undefined);
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  servers.push(proxy);
  return `https://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
}

async function call(options: ConnectOptions): Promise<string> {
  const taskey = connect({ ...options, credentials: await server.signUp() });
  try {
    return (await taskey.account.getMe({})).email;
  } finally {
    taskey.close();
  }
}

async function assertUnavailable(options: ConnectOptions, message: RegExp): Promise<void> {
  const error: unknown = await call(options).catch((error: unknown) => error);
  assert(error instanceof TaskeyError && error.code === Code.Unavailable, String(error));
  assert.match(error.message, message);
}

before(async () => {
  server = await TestServer.start();
  for (const name of ["ca", "server", "client"]) createCertificate(name);
});

after(async () => {
  for (const proxy of servers) proxy.close();
  rmSync(folder, { recursive: true });
  await server.remove();
});

test("the server is authenticated by its certificate", async () => {
  const url = await terminateTls({});
  assert.match(await call({ url, caFile: file("ca.pem") }), /@example\.org$/);
  await assertUnavailable({ url }, /certificate/);
  const other = url.replace("127.0.0.1", "localhost");
  await assertUnavailable({ url: other, caFile: file("ca.pem") }, /does not match/);
});

test("the client is authenticated by its certificate", async () => {
  const url = await terminateTls({ requestCert: true, ca: readFileSync(file("ca.pem")) });
  const caFile = file("ca.pem");
  assert.match(
    await call({ url, caFile, certFile: file("client.pem"), keyFile: file("client.key") }),
    /@example\.org$/,
  );
  await assertUnavailable({ url, caFile }, /./);
});
