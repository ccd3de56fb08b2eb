import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { createTaskey, type Credentials, type Taskey } from "./client.js";

export * from "./client.js";

/** Creates a client that speaks gRPC-Web. The gateway must permit the origin of the page: `--cors-origin`. */
export function connect({ url, credentials }: { url: string; credentials?: Credentials }): Taskey {
  return createTaskey(createGrpcWebTransport({ baseUrl: url }), credentials);
}
