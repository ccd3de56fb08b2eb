package dev.taskey.verifier;

import dev.taskey.options.v1.OptionsProto;
import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.ForwardingServerCall.SimpleForwardingServerCall;
import io.grpc.Grpc;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.ProtoMethodDescriptorSupplier;
import java.net.InetAddress;
import java.util.Iterator;
import java.util.Map;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;

/**
 * Authenticates the calls of a gRPC server by their tokens, which must have the scope of the
 * method. Streams end with the token that opened them. The first call with a personal access token
 * waits for its exchange, so the executor of the server must permit blocking.
 */
public final class AuthInterceptor implements ServerInterceptor {
  /** The claims of the caller's token. */
  public static final Context.Key<AccessClaims> CALLER = Context.key("taskey.caller");

  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
  private static final Metadata.Key<String> REQUEST_ID =
      Metadata.Key.of("x-request-id", Metadata.ASCII_STRING_MARSHALLER);

  private final Verifier verifier;
  private final Map<String, String> scopes;

  /**
   * Creates an interceptor that refuses the tokens that the verifier refuses, and those without the
   * scope of the option {@code taskey.options.v1.scope} of a method. If a method does not have the
   * option, tokens with scopes are refused.
   */
  public AuthInterceptor(Verifier verifier) {
    this(verifier, Map.of());
  }

  /**
   * Creates an interceptor for methods that do not have the option.
   *
   * @param scopes the scopes of methods, such as {@code example.v1.Reports/List}
   */
  public AuthInterceptor(Verifier verifier, Map<String, String> scopes) {
    this.verifier = verifier;
    this.scopes = Map.copyOf(scopes);
  }

  @Override
  public <Q, R> ServerCall.Listener<Q> interceptCall(
      ServerCall<Q, R> call, Metadata headers, ServerCallHandler<Q, R> next) {
    String requestId = headers.get(REQUEST_ID);
    try {
      InetAddress client =
          verifier.clientAddress(
              call.getAttributes().get(Grpc.TRANSPORT_ATTR_REMOTE_ADDR),
              name -> headers.get(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER)));
      AccessClaims claims = verifier.authenticate(authorization(headers), client);
      String scope = requiredScope(call.getMethodDescriptor());
      if (!scope.equals("public")) {
        Verifier.requireScope(claims, scope);
      }
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

  /** Returns the scope of a method, or an empty string if it is not known. */
  private String requiredScope(MethodDescriptor<?, ?> method) {
    String scope = scopes.get(method.getFullMethodName());
    if (scope != null) {
      return scope;
    }
    return method.getSchemaDescriptor() instanceof ProtoMethodDescriptorSupplier schema
        ? schema.getMethodDescriptor().getOptions().getExtension(OptionsProto.scope)
        : "";
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
