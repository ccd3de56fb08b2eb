package dev.taskey.client;

import dev.taskey.task.v1.TaskChange;
import dev.taskey.task.v1.TaskListChange;
import dev.taskey.task.v1.TaskServiceGrpc;
import dev.taskey.task.v1.WatchTasksRequest;
import dev.taskey.task.v1.WatchTasksResponse;
import io.grpc.Context;
import io.grpc.Context.CancellableContext;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * The changes to the user's tasks and lists, as they happen. {@link #next} waits for the next
 * event, and resumes the stream after interruptions. It throws a {@link StatusRuntimeException} if
 * the watch cannot continue. Only {@link #close} may be called by another thread.
 */
public final class TaskWatch implements Iterator<TaskWatch.Event>, AutoCloseable {
  /**
   * An event of the watch.
   *
   * @param reset whether a full synchronization begins: empty the local copy before applying the
   *     changes
   * @param changes the changes to tasks, in the order in which they happened
   * @param listChanges the changes to lists, in the order in which they happened
   * @param syncToken the token with which a later watch continues after this event
   * @param checkpoint whether all changes so far have been received
   */
  public record Event(
      boolean reset,
      List<TaskChange> changes,
      List<TaskListChange> listChanges,
      String syncToken,
      boolean checkpoint) {}

  private static final long MIN_BACKOFF_MS = 100;
  private static final long MAX_BACKOFF_MS = 5000;

  private final ManagedChannel channel;
  private final Session session;
  private final CancellableContext context = Context.current().withCancellation();
  private final CountDownLatch cancelled = new CountDownLatch(1);
  private String syncToken;
  private boolean reset;
  private long backoffMs;
  private TokenCredentials token;
  private Iterator<WatchTasksResponse> stream;

  TaskWatch(ManagedChannel channel, Session session, String syncToken) {
    this.channel = channel;
    this.session = session;
    this.syncToken = syncToken;
    this.reset = syncToken.isEmpty();
    context.addListener(ended -> cancelled.countDown(), Runnable::run);
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
    context.cancel(null);
  }

  private void open() {
    token = new TokenCredentials(session);
    var stub = TaskServiceGrpc.newBlockingStub(channel).withCallCredentials(token);
    var request = WatchTasksRequest.newBuilder().setSyncToken(syncToken).build();
    context.run(() -> stream = stub.watchTasks(request));
  }

  private Event event(WatchTasksResponse message) {
    boolean isReset = reset;
    reset = false;
    syncToken = message.getSyncToken();
    backoffMs = 0;
    return new Event(
        isReset,
        message.getChangesList(),
        message.getListChangesList(),
        syncToken,
        message.getCheckpoint());
  }

  private void recover(StatusRuntimeException failure) {
    TaskeyError error = TaskeyError.from(failure);
    boolean isTransient =
        switch (error.code()) {
          case UNAVAILABLE, INTERNAL, UNKNOWN, CANCELLED, ABORTED, DEADLINE_EXCEEDED -> true;
          case RESOURCE_EXHAUSTED ->
              error.retryAfter().isPresent() || error.reason().equals("OVERLOADED");
          // A second refusal in a row shows that the token cannot be replaced.
          case UNAUTHENTICATED ->
              error.reason().equals("TOKEN_EXPIRED") && token.replace() && backoffMs == 0;
          default -> false;
        };
    if (context.isCancelled()) {
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
    long delay = Math.max(backoffMs, atLeast.toMillis());
    long millis = Math.round(delay * ThreadLocalRandom.current().nextDouble(1, 1.5));
    backoffMs = Math.min(Math.max(2 * backoffMs, MIN_BACKOFF_MS), MAX_BACKOFF_MS);
    try {
      if (cancelled.await(millis, TimeUnit.MILLISECONDS)) {
        throw Status.CANCELLED.withDescription("the watch was closed").asRuntimeException();
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw Status.CANCELLED.withCause(e).asRuntimeException();
    }
    channel.resetConnectBackoff();
  }
}
