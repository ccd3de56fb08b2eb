import { createContextKey, type Interceptor } from "@connectrpc/connect";
import { TokenError } from "./error.js";
import type { Claims } from "./token.js";
import type { Verifier } from "./verifier.js";

/** The key of the caller's claims in the context of a handler: `context.values.get(callerKey)`. */
export const callerKey = createContextKey<Claims | undefined>(undefined, { description: "claims of the caller" });

/** Returns an interceptor for Connect servers that requires a valid access token. Streams end with their token. */
export function verifierInterceptor(verifier: Verifier): Interceptor {
  return (next) => async (request) => {
    const requestId = request.header.get("x-request-id");
    const claims = await verifier.authenticate(request.header.get("authorization")).catch((error: unknown) => {
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
