package dev.taskey.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.taskey.task.v1.GetTaskRequest;
import dev.taskey.task.v1.Task;
import dev.taskey.task.v1.TaskServiceGrpc;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.StreamObserver;
import java.time.Duration;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Calls of a server that returns the error of the test. */
class RetryTest {
  private final AtomicInteger attempts = new AtomicInteger();
  private volatile StatusRuntimeException error;
  private Server server;
  private TaskeyClient client;

  @BeforeEach
  void start() throws Exception {
    server =
        Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create())
            .addService(
                new TaskServiceGrpc.TaskServiceImplBase() {
                  @Override
                  public void getTask(GetTaskRequest request, StreamObserver<Task> response) {
                    attempts.incrementAndGet();
                    if (error != null) {
                      response.onError(error);
                      return;
                    }
                    response.onNext(Task.getDefaultInstance());
                    response.onCompleted();
                  }
                })
            .build()
            .start();
    client = TaskeyClient.builder("localhost:" + server.getPort()).plaintext().build();
  }

  @AfterEach
  void stop() {
    client.close();
    server.shutdownNow();
  }

  private void getTask() {
    TaskServiceGrpc.newBlockingStub(client.channel()).getTask(GetTaskRequest.getDefaultInstance());
  }

  private int attemptsOfAFailingCall() {
    attempts.set(0);
    assertThrows(StatusRuntimeException.class, this::getTask);
    return attempts.get();
  }

  private static StatusRuntimeException unavailable(String pushback) {
    Metadata trailers = new Metadata();
    var key = Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER);
    trailers.put(key, pushback);
    return Status.UNAVAILABLE.asRuntimeException(trailers);
  }

  @Test
  void failures_use_up_the_tokens_of_retries_and_successes_add_to_them() {
    error = Status.UNAVAILABLE.asRuntimeException();
    assertEquals(3, attemptsOfAFailingCall());
    // Retries need more than 5 of 10 tokens.
    assertEquals(2, attemptsOfAFailingCall());
    assertEquals(1, attemptsOfAFailingCall());
    error = null;
    for (int i = 0; i < 21; i++) {
      getTask();
    }
    error = Status.UNAVAILABLE.asRuntimeException();
    assertEquals(2, attemptsOfAFailingCall());
  }

  @Test
  void pushback_delays_the_retry() {
    error = unavailable("300");
    long started = System.nanoTime();
    assertEquals(3, attemptsOfAFailingCall());
    assertTrue(Duration.ofNanos(System.nanoTime() - started).toMillis() >= 600);
  }

  @Test
  void pushback_beyond_the_deadline_or_without_a_number_ends_the_call() {
    for (String pushback : new String[] {"60000", "-1", "never"}) {
      error = unavailable(pushback);
      long started = System.nanoTime();
      assertEquals(1, attemptsOfAFailingCall());
      assertTrue(Duration.ofNanos(System.nanoTime() - started).toSeconds() < 5);
    }
  }
}
