import { createServer } from "node:http2";
import type { AddressInfo, Server } from "node:net";
import type { JsonObject } from "@bufbuild/protobuf";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import express from "express";
import { TaskService } from "../src/gen/taskey/task/v1/task_service_pb.js";
import {
  callerKey,
  callerOf,
  clientAddressContext,
  importKeys,
  requireFresh,
  TokenError,
  type Claims,
  Verifier,
  verifierInterceptor,
  verifierMiddleware,
  verifyToken,
} from "../src/verifier/index.js";
import type { Operation, Parameters } from "./adapter.js";

interface Running {
  verifier: Verifier;
  servers: Server[];
}

const verifiers = new Map<string, Running>();

/** Starts a gRPC server behind the verifier. Its method GetTask returns a task whose id is the `sub` of the caller. */
export function startGrpcServer(verifier: Verifier): Promise<[Server, string]> {
  const handler = connectNodeAdapter({
    routes: (router) =>
      router.rpc(TaskService.method.getTask, (_, context) => ({ id: context.values.get(callerKey)?.sub ?? "" })),
    interceptors: [verifierInterceptor(verifier)],
    contextValues: clientAddressContext,
  });
  return listen(createServer(handler));
}

/** Starts an Express server behind the verifier. It answers any GET with the `sub` of the caller. */
export function startHttpServer(verifier: Verifier): Promise<[Server, string]> {
  const app = express();
  app.use(verifierMiddleware(verifier, "tasks.read"));
  app.get(/.*/, (request, response) => void response.json({ sub: callerOf(request).sub }));
  return new Promise((resolve) => {
    const server = app.listen(0, "127.0.0.1", () => resolve([server, addressOf(server)]));
  });
}

function listen(server: Server): Promise<[Server, string]> {
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve([server, addressOf(server)])));
}

function addressOf(server: Server): string {
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function running(parameters: Parameters): Running {
  const running = verifiers.get(parameters.verifier as string);
  if (running === undefined) throw new Error(`there is no verifier ${String(parameters.verifier)}`);
  return running;
}

/** Returns the claims under their names in the token. */
function toJson({ scopes, ...claims }: Claims): JsonObject {
  const members = claims as unknown as JsonObject;
  return scopes === undefined ? members : { ...members, scope: scopes.join(" ") };
}

/** Converts the refusal of a token to the error of a call. */
function asCall<T>(verified: Promise<T>): Promise<T> {
  return verified.catch((error: unknown) => {
    throw error instanceof TokenError ? error.toConnectError() : error;
  });
}

/** The operations of verifiers. */
export const verifierOperations: Record<string, Operation> = {
  async verify_vector(parameters) {
    const { keys, issuer, audience, now, token } = parameters as unknown as {
      keys: unknown;
      issuer: string;
      audience: string;
      now: number;
      token: string;
    };
    const keySet = await importKeys(keys, now * 1000);
    const claims = await asCall(verifyToken(keySet, { issuer, audience }, token, now * 1000));
    return { claims: toJson(claims) };
  },

  async verifier(parameters) {
    const text = (name: string) => parameters[name] as string | undefined;
    const verifier = await Verifier.start({
      url: `${parameters.tls ? "https" : "http"}://${String(parameters.address)}`,
      issuer: text("issuer"),
      audience: text("audience"),
      keyFile: text("key_file"),
      serviceToken: text("service_token"),
      maxStalenessMs: parameters.max_staleness_ms as number | undefined,
      caFile: text("ca_file"),
      onError: (error) => process.stderr.write(`verifier: ${String(error)}\n`),
    });
    const [grpcServer, grpc] = await startGrpcServer(verifier);
    const [httpServer, http] = await startHttpServer(verifier);
    verifiers.set(parameters.verifier as string, { verifier, servers: [grpcServer, httpServer] });
    return { grpc, http };
  },

  async verify(parameters) {
    const { verifier } = running(parameters);
    const address = parameters.client_address as string | undefined;
    const maxAge = parameters.max_age_s as number | undefined;
    const verify = async () => {
      const claims = await verifier.verify(parameters.token as string, address);
      if (maxAge !== undefined) requireFresh(claims, maxAge);
      return claims;
    };
    return { claims: toJson(await asCall(verify())) };
  },

  state(parameters) {
    return Promise.resolve({ state: running(parameters).verifier.state });
  },

  close_verifier(parameters) {
    const { verifier, servers } = running(parameters);
    verifier.close();
    for (const server of servers) server.close();
    verifiers.delete(parameters.verifier as string);
    return Promise.resolve({});
  },
};
