package dev.taskey.client;

import com.google.protobuf.DescriptorProtos.MethodOptions.IdempotencyLevel;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import dev.taskey.options.v1.OptionsProto;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ClientInterceptors;
import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.ProtoMethodDescriptorSupplier;
import java.io.IOException;
import java.time.Duration;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;

/**
 * Adds the access token, the deadline and the request id to calls, and retries unary calls if that
 * is safe.
 */
final class CallInterceptor implements ClientInterceptor {
  /** Marks a call as safe to retry although it has side effects and no request id. */
  static final CallOptions.Key<Boolean> IS_REPEATABLE =
      CallOptions.Key.createWithDefault("repeatable", false);

  private static final Metadata.Key<String> PUSHBACK =
      Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER);
  private static final Duration TIMEOUT = Duration.ofSeconds(10);

  private final ManagedChannel channel;
  private final Executor executor;
  private final RetryPolicy policy = new RetryPolicy();
  private final Session session;

  /** The session makes its own calls through this interceptor. */
  CallInterceptor(ManagedChannel channel, Session.Credentials credentials, Executor executor) {
    this.channel = channel;
    this.executor = executor;
    session = new Session(ClientInterceptors.intercept(channel, this), credentials, executor);
  }

  Session session() {
    return session;
  }

  @Override
  public <Q, R> ClientCall<Q, R> interceptCall(
      MethodDescriptor<Q, R> method, CallOptions options, Channel next) {
    if (method.getType() == MethodDescriptor.MethodType.UNARY) {
      return new UnaryCall<>(method, options);
    }
    return options.getCredentials() == null
        ? next.newCall(method, options.withCallCredentials(new TokenCredentials(session)))
        : next.newCall(method, options);
  }

  private final class UnaryCall<Q, R> extends ClientCall<Q, R> {
    private final MethodDescriptor<Q, R> method;
    private final CallOptions options;
    private final Context context = Context.current();
    private final Executor callbacks;
    private final Deadline deadline;
    private final boolean needsToken;
    private boolean isRepeatable;
    private Listener<R> listener;
    private Metadata headers;
    private Q message;
    private ClientCall<Q, R> attempt;
    private int attempts;
    private boolean hasReplacedToken;
    private boolean isClosed;

    UnaryCall(MethodDescriptor<Q, R> method, CallOptions options) {
      this.method = method;
      callbacks = options.getExecutor() == null ? executor : options.getExecutor();
      var schema = (ProtoMethodDescriptorSupplier) method.getSchemaDescriptor();
      var contract = schema.getMethodDescriptor().getOptions();
      isRepeatable =
          options.getOption(IS_REPEATABLE)
              || contract.getIdempotencyLevel() == IdempotencyLevel.NO_SIDE_EFFECTS;
      needsToken =
          options.getCredentials() == null
              && !contract.getExtension(OptionsProto.scope).equals("public");
      Deadline own = options.getDeadline();
      own = own == null ? Deadline.after(TIMEOUT.toSeconds(), TimeUnit.SECONDS) : own;
      Deadline outer = context.getDeadline();
      deadline = outer == null ? own : own.minimum(outer);
      this.options = options.withDeadline(deadline);
    }

    @Override
    public void start(Listener<R> listener, Metadata headers) {
      this.listener = listener;
      this.headers = headers;
    }

    @Override
    public void request(int count) {
      // Each attempt requests its only message.
    }

    /** Fills in an empty {@code request_id}, which makes retries of a write safe. */
    @Override
    @SuppressWarnings("unchecked")
    public void sendMessage(Q request) {
      Message write = (Message) request;
      FieldDescriptor field = write.getDescriptorForType().findFieldByName("request_id");
      isRepeatable |= field != null;
      boolean isEmpty = field != null && ((String) write.getField(field)).isEmpty();
      String id = UUID.randomUUID().toString();
      message = isEmpty ? (Q) write.toBuilder().setField(field, id).build() : request;
    }

    @Override
    public void halfClose() {
      attempt();
    }

    @Override
    public synchronized void cancel(String reason, Throwable cause) {
      if (attempt != null) {
        attempt.cancel(reason, cause);
      }
      Status status = Status.CANCELLED.withDescription(reason).withCause(cause);
      callbacks.execute(() -> close(status, new Metadata()));
    }

    private synchronized void attempt() {
      if (isClosed) {
        return;
      }
      attempts++;
      TokenCredentials token = needsToken ? new TokenCredentials(session) : null;
      CallOptions all = needsToken ? options.withCallCredentials(token) : options;
      Metadata copy = new Metadata();
      copy.merge(headers);
      context.run(() -> attempt = channel.newCall(method, all));
      attempt.start(new AttemptListener(token), copy);
      attempt.request(2);
      attempt.sendMessage(message);
      attempt.halfClose();
    }

    private void close(Status status, Metadata trailers) {
      synchronized (this) {
        if (isClosed) {
          return;
        }
        isClosed = true;
      }
      listener.onClose(status, trailers == null ? new Metadata() : trailers);
    }

    /** Returns the delay before the next attempt, if there is one. */
    private synchronized Optional<Duration> retryDelay(
        Status status, Metadata trailers, TokenCredentials token) {
      if (status.isOk()) {
        policy.recordSuccess();
        return Optional.empty();
      }
      TaskeyError error = TaskeyError.from(status, trailers);
      if (error.reason().equals("TOKEN_EXPIRED") && token != null) {
        boolean isReplaced = token.replace() && !hasReplacedToken;
        hasReplacedToken = true;
        return isReplaced ? Optional.of(Duration.ZERO) : Optional.empty();
      }
      return policy
          .delay(error, trailers.get(PUSHBACK), attempts)
          .filter(delay -> isRepeatable)
          .filter(delay -> delay.toMillis() < deadline.timeRemaining(TimeUnit.MILLISECONDS));
    }

    /** Passes on the response of the last attempt. */
    private final class AttemptListener extends Listener<R> {
      private final TokenCredentials token;
      private Metadata responseHeaders;
      private R response;

      AttemptListener(TokenCredentials token) {
        this.token = token;
      }

      @Override
      public void onHeaders(Metadata received) {
        responseHeaders = received;
      }

      @Override
      public void onMessage(R received) {
        response = received;
      }

      @Override
      public void onClose(Status received, Metadata trailers) {
        if (received.getCause() instanceof StatusRuntimeException failure) {
          // There is no access token. The session has retried that already.
          close(failure.getStatus(), failure.getTrailers());
          return;
        }
        Status status = received;
        if (status.getCode() == Status.Code.UNKNOWN && status.getCause() instanceof IOException e) {
          // Netty reports UNKNOWN if the connection was closed before the request was sent.
          status = Status.UNAVAILABLE.withDescription(status.getDescription()).withCause(e);
        }
        Optional<Duration> delay = retryDelay(status, trailers, token);
        if (delay.isPresent()) {
          // Otherwise, a channel that has failed to connect would wait longer than the call.
          channel.resetConnectBackoff();
          CompletableFuture.delayedExecutor(
                  delay.get().toMillis(), TimeUnit.MILLISECONDS, callbacks)
              .execute(UnaryCall.this::attempt);
          return;
        }
        if (responseHeaders != null && !isClosed) {
          listener.onHeaders(responseHeaders);
        }
        if (response != null && !isClosed) {
          listener.onMessage(response);
        }
        close(status, trailers);
      }
    }
  }
}
