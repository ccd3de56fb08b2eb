package dev.taskey.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.taskey.auth.v1.AccountServiceGrpc;
import dev.taskey.auth.v1.GetMeRequest;
import dev.taskey.auth.v1.ListMySecurityEventsRequest;
import dev.taskey.support.Proxy;
import dev.taskey.support.Server;
import dev.taskey.task.v1.ListTasksRequest;
import dev.taskey.task.v1.TaskServiceGrpc;
import io.grpc.StatusRuntimeException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Calls while tokens expire, and connections and servers fail. */
class FailureTest {
  private Server server;
  private Proxy proxy;
  private TaskeyClient client;

  @BeforeEach
  void start() throws Exception {
    // Expired tokens are accepted for another 5 s.
    server = new Server("--access-token-ttl", "1s");
    proxy = new Proxy(server.port("gateway"));
    TaskeyClientTest.signUp(server.address("gateway"), "ann@example.org");
    client =
        TaskeyClient.builder(proxy.address())
            .plaintext()
            .password("ann@example.org", TaskeyClientTest.PASSWORD)
            .build();
  }

  @AfterEach
  void stop() throws Exception {
    client.close();
    proxy.close();
    server.close();
  }

  private TaskServiceGrpc.TaskServiceBlockingStub tasks() {
    return TaskServiceGrpc.newBlockingStub(client.channel());
  }

  private long count(String event) {
    var request = ListMySecurityEventsRequest.newBuilder().setPageSize(500).build();
    var events =
        AccountServiceGrpc.newBlockingStub(client.channel())
            .listMySecurityEvents(request)
            .getEventsList();
    return events.stream().filter(one -> one.getKind().name().equals(event)).count();
  }

  @Test
  void concurrent_calls_with_an_expired_token_share_one_refresh() throws Exception {
    String first = client.accessToken().get();
    // The server accepts expired tokens for another 5 s.
    Thread.sleep(6500);
    long before = server.startedCalls("Refresh");
    var threads = Executors.newFixedThreadPool(50);
    var calls =
        IntStream.range(0, 50)
            .mapToObj(
                i ->
                    CompletableFuture.runAsync(
                        () ->
                            AccountServiceGrpc.newBlockingStub(client.channel())
                                .getMe(GetMeRequest.getDefaultInstance()),
                        threads))
            .toList();
    calls.forEach(CompletableFuture::join);
    assertEquals(1, server.startedCalls("Refresh") - before);
    assertFalse(client.accessToken().get().equals(first));
    threads.shutdown();
  }

  @Test
  void lost_response_of_a_refresh_does_not_end_the_session() throws Exception {
    String first = client.accessToken().get();
    for (int i = 0; i < 3; i++) {
      Thread.sleep(1100);
      proxy.loseNextResponse();
      AccountServiceGrpc.newBlockingStub(client.channel()).getMe(GetMeRequest.getDefaultInstance());
    }
    assertFalse(client.accessToken().get().equals(first));
    assertEquals(1, count("KIND_LOGIN"));
  }

  @Test
  void lost_response_of_a_write_creates_one_task() throws Exception {
    client.accessToken().get();
    proxy.loseNextResponse();
    assertEquals("Once", tasks().createTask(TaskeyClientTest.create("Once")).getTitle());
    assertEquals(1, tasks().listTasks(ListTasksRequest.getDefaultInstance()).getTasksCount());
  }

  @Test
  void read_is_repeated_after_the_connection_was_cut() throws Exception {
    tasks().listTasks(ListTasksRequest.getDefaultInstance());
    proxy.cut();
    tasks().listTasks(ListTasksRequest.getDefaultInstance());
  }

  @Test
  void watch_survives_a_cut_a_restart_and_the_expiry_of_its_token() throws Exception {
    try (TaskWatch watch = client.watchTasks("")) {
      assertTrue(watch.next().reset());
      proxy.cut();
      tasks().createTask(TaskeyClientTest.create("After the cut"));
      assertEquals("After the cut", nextTitle(watch));

      server.stop();
      server.start();
      proxy.setTarget(server.port("gateway"));
      tasks().withWaitForReady().createTask(TaskeyClientTest.create("After the restart"));
      assertEquals("After the restart", nextTitle(watch));

      var waiting = CompletableFuture.supplyAsync(() -> nextTitle(watch));
      Thread.sleep(8000);
      tasks().createTask(TaskeyClientTest.create("After the expiry"));
      assertEquals("After the expiry", waiting.get(10, TimeUnit.SECONDS));
    }
  }

  private static String nextTitle(TaskWatch watch) {
    while (true) {
      TaskWatch.Event event = watch.next();
      assertFalse(event.reset());
      if (!event.changes().isEmpty()) {
        return event.changes().get(event.changes().size() - 1).getTask().getTitle();
      }
    }
  }

  @Test
  void watch_notices_a_half_open_connection() throws Exception {
    try (TaskWatch watch = client.watchTasks("")) {
      watch.next();
      proxy.freeze();
      var waiting = CompletableFuture.supplyAsync(() -> nextTitle(watch));
      try (var other =
          TaskeyClient.builder(server.address("gateway"))
              .plaintext()
              .password("ann@example.org", TaskeyClientTest.PASSWORD)
              .build()) {
        TaskServiceGrpc.newBlockingStub(other.channel())
            .createTask(TaskeyClientTest.create("Unnoticed"));
      }
      assertEquals("Unnoticed", waiting.get(40, TimeUnit.SECONDS));
    }
  }

  @Test
  void close_ends_a_waiting_watch() throws Exception {
    TaskWatch watch = client.watchTasks("");
    watch.next();
    var waiting = CompletableFuture.runAsync(watch::next);
    Thread.sleep(200);
    watch.close();
    var failure =
        assertThrows(
            java.util.concurrent.ExecutionException.class, () -> waiting.get(5, TimeUnit.SECONDS));
    assertEquals(
        io.grpc.Status.Code.CANCELLED,
        ((StatusRuntimeException) failure.getCause()).getStatus().getCode());
  }
}
