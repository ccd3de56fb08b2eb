import { create, toJson, type JsonObject } from "@bufbuild/protobuf";
import { AnySchema, anyPack, durationFromMs, type Any } from "@bufbuild/protobuf/wkt";
import { createRegistry } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema, RequestInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.js";

const registry = createRegistry(ErrorInfoSchema, RequestInfoSchema, RetryInfoSchema);

/** Why a token is refused. */
export type Reason =
  | "TOKEN_MISSING"
  | "TOKEN_INVALID"
  | "TOKEN_EXPIRED"
  | "TOKEN_REVOKED"
  | "SCOPE_MISSING"
  | "STEP_UP_REQUIRED"
  | "RATE_LIMITED"
  | "VERIFIER_NOT_READY";

/** The codes of gRPC and HTTP, and the name of the former. */
const CODES = {
  unauthenticated: [Code.Unauthenticated, 401, "UNAUTHENTICATED"],
  permissionDenied: [Code.PermissionDenied, 403, "PERMISSION_DENIED"],
  resourceExhausted: [Code.ResourceExhausted, 429, "RESOURCE_EXHAUSTED"],
  unavailable: [Code.Unavailable, 503, "UNAVAILABLE"],
} as const;

/** The refusal of a token. */
export class TokenError extends Error {
  private constructor(
    readonly reason: Reason,
    message: string,
    /** Whether the key of the token is unknown. It may be a new one that has not been received yet. */
    readonly isKeyUnknown = false,
    /** The scope that the token does not have, if its name is known. */
    readonly requiredScope?: string,
    /** How many seconds ago the user may have proved who they are at most, if that was too long ago. */
    readonly maxAge?: number,
    /** After this delay in seconds, a retry can succeed. */
    readonly retryAfter?: number,
  ) {
    super(message);
    this.name = "TokenError";
  }

  static missing(): TokenError {
    return new TokenError("TOKEN_MISSING", "an access token is required: authorization: Bearer <token>");
  }

  static invalid(): TokenError {
    return new TokenError("TOKEN_INVALID", "the access token is not valid");
  }

  static keyUnknown(): TokenError {
    return new TokenError("TOKEN_INVALID", "the access token is not valid", true);
  }

  static expired(): TokenError {
    return new TokenError("TOKEN_EXPIRED", "the access token has expired");
  }

  static revoked(): TokenError {
    return new TokenError("TOKEN_REVOKED", "the session of the access token has ended");
  }

  /** Clients discard their tokens after UNAUTHENTICATED, so this is UNAVAILABLE. */
  static notReady(): TokenError {
    return TokenError.#unavailable("revocations are not received at the moment, so no token is accepted");
  }

  /** Personal access tokens cannot be exchanged at the moment. */
  static noExchange(): TokenError {
    return TokenError.#unavailable("personal access tokens cannot be verified at the moment");
  }

  static #unavailable(message: string): TokenError {
    return new TokenError("VERIFIER_NOT_READY", message, false, undefined, undefined, 1);
  }

  /** A client has sent too many unknown personal access tokens, and has to wait for so many seconds. */
  static rateLimited(seconds: number): TokenError {
    const message = "too many unknown personal access tokens from this address";
    return new TokenError("RATE_LIMITED", message, false, undefined, undefined, seconds);
  }

  /** The user has to prove the password or a second factor again. */
  static stepUpRequired(maxAge: number): TokenError {
    const message = "prove the password or a second factor again, then repeat the call";
    return new TokenError("STEP_UP_REQUIRED", message, false, undefined, maxAge);
  }

  /** Without the name of a scope, tokens with scopes are refused. */
  static scopeMissing(scope?: string): TokenError {
    const missing = `the access token does not have the scope \`${scope}\``;
    const message = scope === undefined ? "tokens with scopes are not accepted here" : missing;
    return new TokenError("SCOPE_MISSING", message, false, scope);
  }

  get #codes() {
    switch (this.reason) {
      case "SCOPE_MISSING":
      case "STEP_UP_REQUIRED":
        return CODES.permissionDenied;
      case "RATE_LIMITED":
        return CODES.resourceExhausted;
      case "VERIFIER_NOT_READY":
        return CODES.unavailable;
      default:
        return CODES.unauthenticated;
    }
  }

  /** What a client needs to be permitted (RFC 6750, section 3, and RFC 9470, section 3). */
  get #challenge(): string {
    if (this.maxAge === undefined) return `Bearer error="insufficient_scope", scope="${this.requiredScope ?? ""}"`;
    return `Bearer error="insufficient_user_authentication", max_age="${this.maxAge}"`;
  }

  /** Returns the error of a gRPC call with this `x-request-id`. */
  toConnectError(requestId?: string | null): ConnectError {
    const error = new ConnectError(this.message, this.#codes[0]);
    error.details = this.#details(requestId).map(({ typeUrl, value }) => ({
      type: typeUrl.replace(/^.*\//, ""),
      value,
    }));
    if (this.retryAfter !== undefined)
      error.metadata.set("grpc-retry-pushback-ms", String(Math.ceil(this.retryAfter * 1000)));
    return error;
  }

  /**
   * Returns the status, the headers and the body of the response to an HTTP request with this `x-request-id`, in the format
   * of Taskey's gateway.
   */
  toHttp(requestId?: string): { status: number; headers: Record<string, string>; body: JsonObject } {
    const details = this.#details(requestId).map((detail) => toJson(AnySchema, detail, { registry }));
    const [, code, status] = this.#codes;
    const retry = { "retry-after": String(Math.ceil(this.retryAfter ?? 0)) };
    const challenges = {
      401: { "www-authenticate": 'Bearer error="invalid_token"' },
      403: { "www-authenticate": this.#challenge },
      429: retry,
      503: retry,
    };
    return {
      status: code,
      headers: challenges[code],
      body: { error: { code, status, message: this.message, details } },
    };
  }

  #details(fromCaller?: string | null): Any[] {
    const metadata: Record<string, string> = {};
    if (this.requiredScope !== undefined) metadata.required = this.requiredScope;
    if (this.maxAge !== undefined)
      Object.assign(metadata, { required: "reauthentication", max_age: String(this.maxAge) });
    const info = create(ErrorInfoSchema, { reason: this.reason, domain: "taskey", metadata });
    // An id of the caller must be printable ASCII and not too long.
    const requestId = fromCaller && /^[!-~]{1,128}$/.test(fromCaller) ? fromCaller : crypto.randomUUID();
    const request = create(RequestInfoSchema, { requestId });
    const details = [anyPack(ErrorInfoSchema, info), anyPack(RequestInfoSchema, request)];
    if (this.retryAfter !== undefined) {
      const retry = create(RetryInfoSchema, { retryDelay: durationFromMs(Math.ceil(this.retryAfter * 1000)) });
      details.push(anyPack(RetryInfoSchema, retry));
    }
    return details;
  }
}
