import { getOption } from "@bufbuild/protobuf";
import {
  createContextKey,
  createContextValues,
  type ContextValues,
  type Interceptor,
  type StreamRequest,
  type UnaryRequest,
} from "@connectrpc/connect";
import { scope } from "../gen/taskey/options/v1/options_pb.js";
import { TokenError } from "./error.js";
import { requireScope, type Claims } from "./token.js";
import type { Verifier } from "./verifier.js";

/** The key of the caller's claims in the context of a handler: `context.values.get(callerKey)`. */
export const callerKey = createContextKey<Claims | undefined>(undefined, { description: "claims of the caller" });

/** The key of the address of the client. Without it, tokens that are limited to networks are refused. */
export const clientAddressKey = createContextKey<string | undefined>(undefined, {
  description: "address of the client",
});

/** The option `contextValues` of `connectNodeAdapter` that contains the address of the client. */
export function clientAddressContext(request: { socket: { remoteAddress?: string } }): ContextValues {
  return createContextValues().set(clientAddressKey, request.socket.remoteAddress);
}

/** Options of the interceptor. */
export interface InterceptorOptions {
  /**
   * The scopes of methods, such as `/example.v1.Reports/List`. Others require that of the option
   * `taskey.options.v1.scope` in their contract. If there is none, tokens with scopes are refused.
   */
  scopes?: Record<string, string>;
}

/**
 * Returns an interceptor for Connect servers that requires a valid token with the scope of the method. Streams end with
 * their token.
 */
export function verifierInterceptor(verifier: Verifier, { scopes = {} }: InterceptorOptions = {}): Interceptor {
  const authenticate = async ({ method, header, contextValues }: UnaryRequest | StreamRequest) => {
    const address = contextValues.get(clientAddressKey);
    const claims = await verifier.authenticate(header.get("authorization"), address);
    const required = scopes[`/${method.parent.typeName}/${method.name}`] ?? getOption(method, scope);
    if (required !== "public") requireScope(claims, required === "" ? undefined : required);
    return claims;
  };
  return (next) => async (request) => {
    const requestId = request.header.get("x-request-id");
    const claims = await authenticate(request).catch((error: unknown) => {
      throw error instanceof TokenError ? error.toConnectError(requestId) : error;
    });
    request.contextValues.set(callerKey, claims);
    const response = await next(request);
    return response.stream
      ? { ...response, message: whileValid(verifier, claims, requestId, response.message) }
      : response;
  };
}

/** Passes messages on until the token is no longer valid, and then throws the reason. */
async function* whileValid<T>(
  verifier: Verifier,
  claims: Claims,
  requestId: string | null,
  messages: AsyncIterable<T>,
): AsyncGenerator<T> {
  let stop = () => {};
  const invalid = new Promise<never>((_, reject) => {
    stop = verifier.watch(claims, (error) => reject(error.toConnectError(requestId)));
  });
  invalid.catch(() => undefined);
  const iterator = messages[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await Promise.race([iterator.next(), invalid]);
      if (next.done) return;
      yield next.value;
    }
  } finally {
    stop();
    iterator.return?.().catch(() => undefined);
  }
}
