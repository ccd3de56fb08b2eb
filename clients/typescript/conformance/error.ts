import { ConnectError } from "@connectrpc/connect";
import { Code, TaskeyError } from "../src/node.js";
import type { JsonObject } from "@bufbuild/protobuf";

/** Returns the name of a code, such as `NOT_FOUND`. gRPC spells CANCELLED with two L, and Connect with one. */
export function codeName(code: Code): string {
  if (code === Code.Canceled) return "CANCELLED";
  return Code[code].replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
}

/** Converts an error to the form of the protocol. */
export function errorToJson(cause: unknown): JsonObject {
  // Anything else is a mistake of the driver or of the adapter.
  const isCall = cause instanceof ConnectError;
  const error = TaskeyError.from(isCall ? cause : new ConnectError(String(cause), Code.FailedPrecondition));
  return {
    code: codeName(error.code),
    reason: error.reason,
    message: error.rawMessage,
    metadata: error.reasonMetadata,
    violations: error.violations.map(({ field, description }) => ({ field, description })),
    retry_after_ms: error.retryAfterMs ?? null,
    request_id: error.requestId,
  };
}
