package dev.taskey.client;

import dev.taskey.task.v1.TaskChange;
import dev.taskey.task.v1.TaskServiceGrpc.TaskServiceBlockingStub;
import dev.taskey.task.v1.WatchTasksRequest;
import dev.taskey.task.v1.WatchTasksResponse;
import io.grpc.Context;
import io.grpc.Context.CancellableContext;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * The changes to the user's tasks, as they happen. {@link #next} waits for the next event, and
 * resumes the stream after interruptions. It throws a {@link StatusRuntimeException} if the watch
 * cannot continue. Only {@link #close} may be called by another thread.
 */
public final class TaskWatch implements Iterator<TaskWatch.Event>, AutoCloseable {
  /**
   * An event of the watch.
   *
   * @param reset whether a full synchronization begins: empty the local copy before applying the
   *     changes
   * @param changes the changes, in the order in which they happened
   * @param syncToken the token with which a later watch continues after this event
   * @param checkpoint whether all changes so far have been received
   */
  public record Event(
      boolean reset, List<TaskChange> changes, String syncToken, boolean checkpoint) {}

  private static final Duration MIN_BACKOFF = Duration.ofMillis(100);
  private static final Duration MAX_BACKOFF = Duration.ofSeconds(5);

  private final TaskServiceBlockingStub stub;
  private final Runnable reconnect;
  private final Context parent = Context.current();
  private final CountDownLatch closed = new CountDownLatch(1);
  private String syncToken;
  private boolean reset;
  private Duration backoff = Duration.ZERO;
  private CancellableContext context;
  private Iterator<WatchTasksResponse> stream;

  TaskWatch(TaskServiceBlockingStub stub, String syncToken, Runnable reconnect) {
    this.stub = stub;
    this.syncToken = syncToken;
    this.reset = syncToken.isEmpty();
    this.reconnect = reconnect;
  }

  /** Returns true: a watch ends only by {@link #close} or an error. */
  @Override
  public boolean hasNext() {
    return true;
  }

  @Override
  public Event next() {
    while (true) {
      try {
        if (stream == null) {
          open();
        }
        if (stream.hasNext()) {
          return event(stream.next());
        }
        resumeLater(Duration.ZERO);
      } catch (StatusRuntimeException e) {
        recover(e);
      }
    }
  }

  @Override
  public void close() {
    closed.countDown();
    cancel();
  }

  private void open() {
    CancellableContext opened = parent.withCancellation();
    synchronized (this) {
      context = opened;
    }
    if (closed.getCount() == 0) {
      cancel();
    }
    var request = WatchTasksRequest.newBuilder().setSyncToken(syncToken).build();
    opened.run(() -> stream = stub.watchTasks(request));
  }

  private synchronized void cancel() {
    if (context != null) {
      context.cancel(null);
    }
  }

  private Event event(WatchTasksResponse message) {
    boolean isReset = reset;
    reset = false;
    syncToken = message.getSyncToken();
    backoff = Duration.ZERO;
    return new Event(isReset, message.getChangesList(), syncToken, message.getCheckpoint());
  }

  private void recover(StatusRuntimeException failure) {
    TaskeyError error = TaskeyError.from(failure);
    // A second refusal in a row shows that the token cannot be replaced.
    boolean isExpired = error.reason().equals("TOKEN_EXPIRED") && backoff.isZero();
    boolean isTransient =
        switch (error.code()) {
          case UNAVAILABLE, INTERNAL, UNKNOWN, CANCELLED, ABORTED, DEADLINE_EXCEEDED -> true;
          case RESOURCE_EXHAUSTED ->
              error.retryAfter().isPresent() || error.reason().equals("OVERLOADED");
          default -> isExpired;
        };
    if (closed.getCount() == 0 || parent.isCancelled()) {
      throw failure;
    } else if (error.reason().equals("SYNC_TOKEN_EXPIRED") && !syncToken.isEmpty()) {
      syncToken = "";
      reset = true;
      stream = null;
    } else if (isTransient) {
      resumeLater(error.retryAfter().orElse(Duration.ZERO));
    } else {
      throw failure;
    }
  }

  private void resumeLater(Duration atLeast) {
    stream = null;
    cancel();
    Duration wait = backoff.compareTo(atLeast) > 0 ? backoff : atLeast;
    long millis = Math.round(wait.toMillis() * ThreadLocalRandom.current().nextDouble(1, 1.5));
    Duration doubled = backoff.isZero() ? MIN_BACKOFF : backoff.multipliedBy(2);
    backoff = doubled.compareTo(MAX_BACKOFF) > 0 ? MAX_BACKOFF : doubled;
    try {
      if (closed.await(millis, TimeUnit.MILLISECONDS)) {
        throw Status.CANCELLED.withDescription("the watch was closed").asRuntimeException();
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw Status.CANCELLED.withCause(e).asRuntimeException();
    }
    reconnect.run();
  }
}
