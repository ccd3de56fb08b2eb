import type { IncomingMessage, ServerResponse } from "node:http";
import { TokenError } from "./error.js";
import type { Claims } from "./token.js";
import type { Verifier } from "./verifier.js";

const callers = new WeakMap<IncomingMessage, Claims>();

/** Returns the claims of the caller of a request that has passed the middleware. */
export function callerOf(request: IncomingMessage): Claims {
  const claims = callers.get(request);
  if (claims === undefined) throw new Error("the request has not passed the middleware of the verifier");
  return claims;
}

/** Returns a middleware for Express that requires a valid access token. Errors have the format of Taskey's gateway. */
export function verifierMiddleware(verifier: Verifier) {
  return (request: IncomingMessage, response: ServerResponse, next: (error?: unknown) => void): void => {
    // `headers` contains only the first of several values.
    const values = request.headersDistinct.authorization ?? [];
    verifier.authenticate(values.length > 1 ? "" : values[0]).then(
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
