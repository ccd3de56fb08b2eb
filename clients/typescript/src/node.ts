import { readFileSync } from "node:fs";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { createTaskey, type Credentials, type Taskey } from "./client.js";

export * from "./client.js";

/** Options of `connect`. */
export interface ConnectOptions {
  /** The address of the gateway: `https://HOST:PORT`, or `http://HOST:PORT` without TLS. */
  url: string;
  credentials?: Credentials;
  /** PEM file with the authorities to trust. By default, those of Node.js. */
  caFile?: string;
  /** PEM files with the certificate and the private key of the client, for mutual TLS. */
  certFile?: string;
  keyFile?: string;
}

/** Creates a client that speaks gRPC. Connects at the first call, and again after the connection was lost. */
export function connect({ url, credentials, caFile, certFile, keyFile }: ConnectOptions): Taskey {
  const read = (file?: string) => (file === undefined ? undefined : readFileSync(file));
  const tls = { ca: read(caFile), cert: read(certFile), key: read(keyFile) };
  const sessionManager = new Http2SessionManager(url, { pingIntervalMs: 20_000, pingTimeoutMs: 5_000 }, tls);
  const transport = createGrpcTransport({ baseUrl: url, sessionManager });
  return createTaskey(transport, credentials, () => sessionManager.abort());
}
