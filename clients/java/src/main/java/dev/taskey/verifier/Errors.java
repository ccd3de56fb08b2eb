package dev.taskey.verifier;

import com.google.protobuf.Any;
import com.google.protobuf.Duration;
import com.google.rpc.Code;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RequestInfo;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.UUID;

/** The errors of verifiers: the same as those of Taskey's own services. */
final class Errors {
  private Errors() {}

  static StatusRuntimeException missing() {
    return unauthenticated(
        "TOKEN_MISSING", "an access token is required: authorization: Bearer <token>");
  }

  static StatusRuntimeException invalid() {
    return unauthenticated("TOKEN_INVALID", "the access token is not valid");
  }

  static StatusRuntimeException expired() {
    return unauthenticated("TOKEN_EXPIRED", "the access token has expired");
  }

  static StatusRuntimeException revoked() {
    return unauthenticated("TOKEN_REVOKED", "the session of the access token has ended");
  }

  static StatusRuntimeException notReady() {
    return unavailable("revocations are not received at the moment, so no token is accepted");
  }

  static StatusRuntimeException noExchange() {
    return unavailable("personal access tokens cannot be verified at the moment");
  }

  /** The error of a token without a scope; an empty scope is one that is not known. */
  static StatusRuntimeException scopeMissing(String scope) {
    var info = ErrorInfo.newBuilder().setReason("SCOPE_MISSING").setDomain("taskey");
    String message = "tokens with scopes are not accepted here";
    if (!scope.isEmpty()) {
      info.putMetadata("required", scope);
      message = "the access token does not have the scope `" + scope + "`";
    }
    return StatusProto.toStatusRuntimeException(
        status(Code.PERMISSION_DENIED, info.build(), message).build());
  }

  /** The error of a client that has sent too many unknown personal access tokens. */
  static StatusRuntimeException tooManyExchanges(java.time.Duration wait) {
    var delay = Duration.newBuilder().setSeconds(wait.getSeconds()).setNanos(wait.getNano());
    var retry = RetryInfo.newBuilder().setRetryDelay(delay).build();
    var message = "too many unknown personal access tokens from this address";
    var status =
        status(Code.RESOURCE_EXHAUSTED, "RATE_LIMITED", message).addDetails(Any.pack(retry));
    return StatusProto.toStatusRuntimeException(status.build());
  }

  /** The error of a call whose user must prove the password or a second factor again. */
  static StatusRuntimeException stepUpRequired(java.time.Duration maxAge) {
    var info =
        ErrorInfo.newBuilder()
            .setReason("STEP_UP_REQUIRED")
            .setDomain("taskey")
            .putMetadata("required", "reauthentication")
            .putMetadata("max_age", Long.toString(maxAge.toSeconds()));
    String message = "prove the password or a second factor again, then repeat the call";
    return StatusProto.toStatusRuntimeException(
        status(Code.PERMISSION_DENIED, info.build(), message).build());
  }

  private static StatusRuntimeException unavailable(String message) {
    var retry = RetryInfo.newBuilder().setRetryDelay(Duration.newBuilder().setSeconds(1));
    var status =
        status(Code.UNAVAILABLE, "VERIFIER_NOT_READY", message).addDetails(Any.pack(retry.build()));
    return StatusProto.toStatusRuntimeException(status.build());
  }

  /** Adds the id of the call: that of the caller, if it is usable, or else a new one. */
  static StatusRuntimeException withRequestId(StatusRuntimeException error, String id) {
    boolean isUsable = id != null && id.matches("[!-~]{1,128}");
    var info = RequestInfo.newBuilder().setRequestId(isUsable ? id : UUID.randomUUID().toString());
    var status = StatusProto.fromThrowable(error).toBuilder().addDetails(Any.pack(info.build()));
    return StatusProto.toStatusRuntimeException(status.build());
  }

  private static StatusRuntimeException unauthenticated(String reason, String message) {
    return StatusProto.toStatusRuntimeException(
        status(Code.UNAUTHENTICATED, reason, message).build());
  }

  private static Status.Builder status(Code code, String reason, String message) {
    return status(
        code, ErrorInfo.newBuilder().setReason(reason).setDomain("taskey").build(), message);
  }

  private static Status.Builder status(Code code, ErrorInfo info, String message) {
    return Status.newBuilder()
        .setCode(code.getNumber())
        .setMessage(message)
        .addDetails(Any.pack(info));
  }
}
