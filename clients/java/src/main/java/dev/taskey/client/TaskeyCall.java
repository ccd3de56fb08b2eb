package dev.taskey.client;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import dev.taskey.options.v1.OptionsProto;
import io.grpc.CallOptions;
import io.grpc.ClientCall;
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
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.Executor;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * A call with one request: adds the access token, the deadline and the request id, and retries
 * unary calls.
 */
final class TaskeyCall<Q, R> extends ClientCall<Q, R> {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
  private static final Metadata.Key<String> PUSHBACK =
      Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER);

  private final MethodDescriptor<Q, R> method;
  private final CallOptions options;
  private final ManagedChannel channel;
  private final Session session;
  private final ScheduledExecutorService scheduler;
  private final Executor executor;
  private final Context context = Context.current();
  private final boolean isUnary;
  private final boolean isPublic;
  private final Deadline deadline;
  private ServiceConfig.RetryPolicy retryPolicy;
  private Listener<R> listener;
  private Metadata headers;
  private Q message;
  private int requested;
  private ClientCall<Q, R> attempt;
  private int attempts;
  private boolean hasReplacedToken;
  private boolean isClosed;

  TaskeyCall(
      MethodDescriptor<Q, R> method,
      CallOptions options,
      ManagedChannel channel,
      Session session,
      ScheduledExecutorService scheduler) {
    this.method = method;
    this.channel = channel;
    this.session = session;
    this.scheduler = scheduler;
    this.executor = options.getExecutor() == null ? scheduler : options.getExecutor();
    isUnary = method.getType() == MethodDescriptor.MethodType.UNARY;
    var schema = (ProtoMethodDescriptorSupplier) method.getSchemaDescriptor();
    isPublic =
        schema.getMethodDescriptor().getOptions().getExtension(OptionsProto.scope).equals("public");
    var config = ServiceConfig.INSTANCE.method(method.getFullMethodName());
    retryPolicy = config.retryPolicy();
    Deadline own = options.getDeadline();
    if (own == null && config.timeout() != null) {
      own = Deadline.after(config.timeout().toMillis(), TimeUnit.MILLISECONDS);
    }
    this.options = options.withDeadline(own);
    Deadline outer = context.getDeadline();
    deadline = own == null || outer == null ? (own == null ? outer : own) : own.minimum(outer);
  }

  static Metadata authorization(String token) {
    Metadata headers = new Metadata();
    headers.put(AUTHORIZATION, "Bearer " + token);
    return headers;
  }

  @Override
  public void start(Listener<R> listener, Metadata headers) {
    this.listener = listener;
    this.headers = headers;
  }

  @Override
  public synchronized void request(int count) {
    requested += count;
    if (attempt != null) {
      attempt.request(count);
    }
  }

  @Override
  public void sendMessage(Q request) {
    message = withRequestId(request);
  }

  @Override
  public void halfClose() {
    authorize();
  }

  @Override
  public synchronized void cancel(String reason, Throwable cause) {
    if (attempt != null) {
      attempt.cancel(reason, cause);
    }
    Status status = Status.CANCELLED.withDescription(reason).withCause(cause);
    executor.execute(() -> close(status, new Metadata()));
  }

  /** Fills in an empty {@code request_id}, which makes retries of a write safe. */
  @SuppressWarnings("unchecked")
  private Q withRequestId(Q request) {
    Message write = (Message) request;
    FieldDescriptor field = write.getDescriptorForType().findFieldByName("request_id");
    if (field == null) {
      return request;
    }
    retryPolicy = ServiceConfig.INSTANCE.writes();
    boolean isEmpty = ((String) write.getField(field)).isEmpty();
    String id = UUID.randomUUID().toString();
    return isEmpty ? (Q) write.toBuilder().setField(field, id).build() : request;
  }

  private void authorize() {
    if (isPublic || headers.containsKey(AUTHORIZATION)) {
      attempt(null);
      return;
    }
    CompletableFuture<String> token = session.token();
    if (deadline != null && !token.isDone()) {
      token =
          token
              .copy()
              .orTimeout(deadline.timeRemaining(TimeUnit.NANOSECONDS), TimeUnit.NANOSECONDS);
    }
    token.whenComplete(
        (value, failure) -> {
          if (failure == null) {
            attempt(value);
          } else {
            Throwable cause = failure instanceof CompletionException ? failure.getCause() : failure;
            Status status =
                cause instanceof TimeoutException
                    ? Status.DEADLINE_EXCEEDED.withDescription("no access token in time")
                    : Status.fromThrowable(cause);
            Metadata trailers = cause instanceof StatusRuntimeException e ? e.getTrailers() : null;
            executor.execute(() -> close(status, trailers == null ? new Metadata() : trailers));
          }
        });
  }

  private synchronized void attempt(String token) {
    if (isClosed) {
      return;
    }
    attempts++;
    Metadata all = new Metadata();
    all.merge(headers);
    if (token != null) {
      all.merge(authorization(token));
    }
    context.run(() -> attempt = channel.newCall(method, options));
    attempt.start(new AttemptListener(token), all);
    attempt.request(isUnary ? 2 : requested);
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
    listener.onClose(status, trailers);
  }

  /** Returns the delay before the next attempt, or null if there is none. */
  private synchronized Duration retryDelay(Status status, Metadata trailers, String token) {
    TaskeyError error = TaskeyError.from(status, trailers);
    if (error.reason().equals("TOKEN_EXPIRED") && token != null) {
      boolean isReplaced = session.replace(token) && isUnary && !hasReplacedToken;
      hasReplacedToken = true;
      attempts -= isReplaced ? 1 : 0;
      return isReplaced ? Duration.ZERO : null;
    }
    String pushback = trailers.get(PUSHBACK);
    boolean mayRetry = isUnary && retryPolicy != null && attempts < retryPolicy.maxAttempts();
    boolean isTransient =
        status.getCode() == Status.Code.UNAVAILABLE
            || (status.getCode() == Status.Code.RESOURCE_EXHAUSTED
                && error.retryAfter().isPresent());
    if (!mayRetry || !isTransient || (pushback != null && !pushback.matches("[0-9]{1,9}"))) {
      return null;
    }
    Duration delay = error.retryAfter().orElseGet(() -> retryPolicy.backoff(attempts));
    if (pushback != null && delay.toMillis() < Long.parseLong(pushback)) {
      delay = Duration.ofMillis(Long.parseLong(pushback));
    }
    boolean isInTime =
        deadline == null || delay.toMillis() < deadline.timeRemaining(TimeUnit.MILLISECONDS);
    return isInTime ? delay : null;
  }

  /** Passes on the messages of a stream, and the response of the last attempt of a unary call. */
  private final class AttemptListener extends Listener<R> {
    private final String token;
    private Metadata responseHeaders;
    private R response;

    AttemptListener(String token) {
      this.token = token;
    }

    @Override
    public void onHeaders(Metadata received) {
      responseHeaders = received;
      if (!isUnary) {
        listener.onHeaders(received);
      }
    }

    @Override
    public void onMessage(R received) {
      response = received;
      if (!isUnary) {
        listener.onMessage(received);
      }
    }

    @Override
    public void onClose(Status received, Metadata trailers) {
      Status status = received;
      if (status.getCode() == Status.Code.UNKNOWN && status.getCause() instanceof IOException) {
        // Netty reports UNKNOWN if the connection was closed before the request was sent.
        status =
            Status.UNAVAILABLE
                .withDescription(status.getDescription())
                .withCause(status.getCause());
      }
      Duration delay = status.isOk() ? null : retryDelay(status, trailers, token);
      if (delay != null) {
        // Otherwise, a channel that has failed to connect would wait longer than the call.
        channel.resetConnectBackoff();
        scheduler.schedule(TaskeyCall.this::authorize, delay.toMillis(), TimeUnit.MILLISECONDS);
        return;
      }
      if (isUnary && responseHeaders != null && !isClosed) {
        listener.onHeaders(responseHeaders);
        if (response != null) {
          listener.onMessage(response);
        }
      }
      close(status, trailers);
    }
  }
}
