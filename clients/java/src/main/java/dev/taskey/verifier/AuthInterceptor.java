package dev.taskey.verifier;

import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.ForwardingServerCall.SimpleForwardingServerCall;
import io.grpc.Metadata;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.util.Iterator;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;

/**
 * Authenticates the calls of a gRPC server by their access tokens. Streams end with the token that
 * opened them.
 */
public final class AuthInterceptor implements ServerInterceptor {
  /** The claims of the caller's token. */
  public static final Context.Key<AccessClaims> CALLER = Context.key("taskey.caller");

  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
  private static final Metadata.Key<String> REQUEST_ID =
      Metadata.Key.of("x-request-id", Metadata.ASCII_STRING_MARSHALLER);

  private final Verifier verifier;

  /** Creates an interceptor that refuses the tokens that the verifier refuses. */
  public AuthInterceptor(Verifier verifier) {
    this.verifier = verifier;
  }

  @Override
  public <Q, R> ServerCall.Listener<Q> interceptCall(
      ServerCall<Q, R> call, Metadata headers, ServerCallHandler<Q, R> next) {
    String requestId = headers.get(REQUEST_ID);
    try {
      AccessClaims claims = verifier.authenticate(authorization(headers));
      Context context = Context.current().withValue(CALLER, claims);
      boolean isStream = !call.getMethodDescriptor().getType().serverSendsOneMessage();
      return Contexts.interceptCall(
          context, isStream ? new StreamCall<>(call, claims, requestId) : call, headers, next);
    } catch (StatusRuntimeException e) {
      StatusRuntimeException refusal = Errors.withRequestId(e, requestId);
      call.close(refusal.getStatus(), refusal.getTrailers());
      return new ServerCall.Listener<>() {};
    }
  }

  private static String authorization(Metadata headers) {
    Iterable<String> values = headers.getAll(AUTHORIZATION);
    if (values == null) {
      return null;
    }
    Iterator<String> iterator = values.iterator();
    String first = iterator.next();
    // Several tokens are refused, because it is unclear which one counts.
    return iterator.hasNext() ? "" : first;
  }

  /** A stream that is closed when its token becomes invalid. */
  private final class StreamCall<Q, R> extends SimpleForwardingServerCall<Q, R> {
    private final AccessClaims claims;
    private final String requestId;
    private final ScheduledFuture<?> check;
    private boolean isClosed;

    StreamCall(ServerCall<Q, R> call, AccessClaims claims, String requestId) {
      super(call);
      this.claims = claims;
      this.requestId = requestId;
      check =
          verifier.scheduler().scheduleWithFixedDelay(this::check, 500, 500, TimeUnit.MILLISECONDS);
    }

    private synchronized void check() {
      if (isCancelled()) {
        check.cancel(false);
        return;
      }
      try {
        verifier.checkStillValid(claims);
      } catch (StatusRuntimeException e) {
        StatusRuntimeException refusal = Errors.withRequestId(e, requestId);
        close(refusal.getStatus(), refusal.getTrailers());
      }
    }

    // The check runs in another thread than the service.
    @Override
    public synchronized void sendHeaders(Metadata headers) {
      if (!isClosed) {
        super.sendHeaders(headers);
      }
    }

    @Override
    public synchronized void sendMessage(R message) {
      if (!isClosed) {
        super.sendMessage(message);
      }
    }

    @Override
    public synchronized void close(Status status, Metadata trailers) {
      if (!isClosed) {
        isClosed = true;
        check.cancel(false);
        super.close(status, trailers);
      }
    }
  }
}
