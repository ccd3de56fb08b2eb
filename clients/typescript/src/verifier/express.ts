import type { IncomingMessage, ServerResponse } from "node:http";
import { TokenError } from "./error.js";
import { requireScope, type Claims } from "./token.js";
import type { Verifier } from "./verifier.js";

const callers = new WeakMap<IncomingMessage, Claims>();

/** Returns the claims of the caller of a request that has passed the middleware. */
export function callerOf(request: IncomingMessage): Claims {
  const claims = callers.get(request);
  if (claims === undefined) throw new Error("the request has not passed the middleware of the verifier");
  return claims;
}

/**
 * Returns a middleware for Express that requires a valid token with a scope, such as `tasks.read`. Without a scope, tokens
 * with scopes are refused. Errors have the format of Taskey's gateway. Behind a proxy, set `trust proxy` of Express, so
 * that the addresses of clients are known.
 */
export function verifierMiddleware(verifier: Verifier, requiredScope?: string) {
  return (
    request: IncomingMessage & { ip?: string },
    response: ServerResponse,
    next: (error?: unknown) => void,
  ): void => {
    // `headers` contains only the first of several values.
    const values = request.headersDistinct.authorization ?? [];
    const address = request.ip ?? request.socket.remoteAddress;
    const authenticated = verifier.authenticate(values.length > 1 ? "" : values[0], address).then((claims) => {
      requireScope(claims, requiredScope);
      return claims;
    });
    authenticated.then(
      (claims) => {
        callers.set(request, claims);
        next();
      },
      (error: unknown) => {
        if (!(error instanceof TokenError)) {
          next(error);
          return;
        }
        const { status, headers, body } = error.toHttp(request.headersDistinct["x-request-id"]?.[0]);
        response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
      },
    );
  };
}
