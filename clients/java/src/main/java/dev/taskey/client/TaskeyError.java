package dev.taskey.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RequestInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * The details of a failed call.
 *
 * @param code the status code
 * @param reason the name of a {@code taskey.errors.v1.ErrorReason} without its prefix, or empty
 * @param message the message for developers
 * @param metadata further values that belong to the reason
 * @param violations the invalid fields of the request
 * @param retryAfter after which delay a retry can succeed
 * @param requestId the id under which the server logs the call, or empty
 */
public record TaskeyError(
    Status.Code code,
    String reason,
    String message,
    Map<String, String> metadata,
    List<BadRequest.FieldViolation> violations,
    Optional<Duration> retryAfter,
    String requestId) {

  /**
   * Returns the details of an exception of a stub; its code is UNKNOWN if it is not from a call.
   */
  public static TaskeyError from(Throwable failure) {
    if (failure.getCause() instanceof StatusRuntimeException cause) {
      // The call got no access token, because the login or the refresh has failed.
      return from(cause);
    }
    return from(Status.fromThrowable(failure), Status.trailersFromThrowable(failure));
  }

  static TaskeyError from(Status status, Metadata trailers) {
    String message = status.getDescription() == null ? "" : status.getDescription();
    ErrorInfo info = ErrorInfo.getDefaultInstance();
    List<BadRequest.FieldViolation> violations = List.of();
    Optional<Duration> retryAfter = Optional.empty();
    String requestId = "";
    try {
      var details =
          StatusProto.fromStatusAndTrailers(status, trailers == null ? new Metadata() : trailers);
      for (Any detail : details.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          info = detail.unpack(ErrorInfo.class);
        } else if (detail.is(BadRequest.class)) {
          violations = detail.unpack(BadRequest.class).getFieldViolationsList();
        } else if (detail.is(RetryInfo.class)) {
          var delay = detail.unpack(RetryInfo.class).getRetryDelay();
          retryAfter = Optional.of(Duration.ofSeconds(delay.getSeconds(), delay.getNanos()));
        } else if (detail.is(RequestInfo.class)) {
          requestId = detail.unpack(RequestInfo.class).getRequestId();
        }
      }
    } catch (InvalidProtocolBufferException malformed) {
      // The details that could be read are sufficient.
    }
    return new TaskeyError(
        status.getCode(),
        info.getReason(),
        message,
        info.getMetadataMap(),
        violations,
        retryAfter,
        requestId);
  }
}
