import { Code, ConnectError } from "@connectrpc/connect";
import * as rpc from "./gen/google/rpc/error_details_pb.js";

/** Codes that connect-node and fetch report for broken connections. gRPC reports them as UNAVAILABLE. */
const CONNECTION_CODES = [Code.Canceled, Code.Aborted, Code.Internal, Code.Unknown, Code.ResourceExhausted];

/** The error of a call. All errors of a client have this type. */
export class TaskeyError extends ConnectError {
  /** The `google.rpc.ErrorInfo.reason`, such as `TASK_NOT_FOUND`. Empty if the error does not come from the server. */
  readonly reason: string;
  /** Further values that belong to the reason, such as `required` of SCOPE_MISSING. */
  readonly reasonMetadata: Record<string, string>;
  /** The invalid fields of the request. */
  readonly violations: rpc.BadRequest_FieldViolation[];
  /** After this delay, a retry can succeed. */
  readonly retryAfterMs: number | undefined;
  /** The id under which the server logs the call, or empty. */
  readonly requestId: string;

  private constructor(error: ConnectError, code: Code) {
    super(error.rawMessage, code, error.metadata, undefined, error.cause ?? error);
    this.details = error.details;
    const info = error.findDetails(rpc.ErrorInfoSchema)[0];
    this.reason = info?.reason ?? "";
    this.reasonMetadata = info?.metadata ?? {};
    this.violations = error.findDetails(rpc.BadRequestSchema).flatMap((detail) => detail.fieldViolations);
    const delay = error.findDetails(rpc.RetryInfoSchema)[0]?.retryDelay;
    this.retryAfterMs = delay && Number(delay.seconds) * 1000 + Math.ceil(delay.nanos / 1e6);
    this.requestId = error.findDetails(rpc.RequestInfoSchema)[0]?.requestId ?? "";
  }

  /** Converts the error of a transport. The code is CANCELLED only if the caller has aborted `signal`. */
  static override from(cause: unknown, signal?: AbortSignal | Code): TaskeyError {
    if (cause instanceof TaskeyError) return cause;
    const error = ConnectError.from(cause);
    if (typeof signal === "object" && signal.aborted) return new TaskeyError(error, Code.Canceled);
    // Errors from the server, or from a proxy in front of it, have one of these.
    const isLocal = !error.metadata.has("grpc-status") && error.details.length === 0;
    return new TaskeyError(error, isLocal && CONNECTION_CODES.includes(error.code) ? Code.Unavailable : error.code);
  }

  /** Overrides the check of `ConnectError`, which accepts every class with the same members. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return Function.prototype[Symbol.hasInstance].call(TaskeyError, value);
  }
}
