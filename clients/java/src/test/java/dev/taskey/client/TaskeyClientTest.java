package dev.taskey.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.taskey.auth.v1.AccountServiceGrpc;
import dev.taskey.auth.v1.AuthServiceGrpc;
import dev.taskey.auth.v1.GetMeRequest;
import dev.taskey.auth.v1.SignUpRequest;
import dev.taskey.support.Server;
import dev.taskey.task.v1.CompleteTaskRequest;
import dev.taskey.task.v1.CreateTaskRequest;
import dev.taskey.task.v1.GetTaskRequest;
import dev.taskey.task.v1.ListTasksRequest;
import dev.taskey.task.v1.ListTasksResponse;
import dev.taskey.task.v1.Task;
import dev.taskey.task.v1.TaskServiceGrpc;
import io.grpc.Context;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** Calls against a real server, without failures of the network. */
class TaskeyClientTest {
  static final String PASSWORD = "a long enough passphrase";
  private static Server server;

  @BeforeAll
  static void start() throws Exception {
    server = new Server();
  }

  @AfterAll
  static void stop() {
    server.close();
  }

  static void signUp(String address, String email) throws Exception {
    try (var client = TaskeyClient.builder(address).plaintext().build()) {
      var request = SignUpRequest.newBuilder().setEmail(email).setPassword(PASSWORD).build();
      AuthServiceGrpc.newBlockingStub(client.channel()).signUp(request);
    }
  }

  static CreateTaskRequest create(String title) {
    return CreateTaskRequest.newBuilder().setTask(Task.newBuilder().setTitle(title)).build();
  }

  private static TaskeyClient logIn(String email) throws Exception {
    signUp(server.address("gateway"), email);
    return TaskeyClient.builder(server.address("gateway"))
        .plaintext()
        .password(email, PASSWORD)
        .build();
  }

  private static TaskeyError failure(Runnable call) {
    return TaskeyError.from(assertThrows(StatusRuntimeException.class, call::run));
  }

  @Test
  void story_from_sign_up_to_refused_token() throws Exception {
    try (var client = logIn("story@example.org")) {
      var tasks = TaskServiceGrpc.newBlockingStub(client.channel());
      Task task = tasks.createTask(create("Buy milk"));
      assertEquals(task, tasks.getTask(GetTaskRequest.newBuilder().setId(task.getId()).build()));
      Task completed =
          tasks.completeTask(CompleteTaskRequest.newBuilder().setId(task.getId()).build());
      assertEquals(Task.State.STATE_COMPLETED, completed.getState());

      String token = client.accessToken().get();
      client.logout();
      try (var other =
          TaskeyClient.builder(server.address("gateway")).plaintext().accessToken(token).build()) {
        var accounts = AccountServiceGrpc.newBlockingStub(other.channel());
        TaskeyError error = failure(() -> accounts.getMe(GetMeRequest.getDefaultInstance()));
        assertEquals("TOKEN_REVOKED", error.reason());
        assertEquals(Status.Code.UNAUTHENTICATED, error.code());
      }
    }
  }

  @Test
  void errors_have_a_reason_and_the_invalid_fields() throws Exception {
    try (var client = logIn("errors@example.org")) {
      var tasks = TaskServiceGrpc.newBlockingStub(client.channel());
      TaskeyError invalid = failure(() -> tasks.createTask(create("")));
      assertEquals("VALIDATION_FAILED", invalid.reason());
      assertEquals("task.title", invalid.violations().get(0).getField());
      assertFalse(invalid.requestId().isEmpty());
      String unknown = "0198c0de-0000-7000-8000-000000000000";
      TaskeyError missing =
          failure(() -> tasks.getTask(GetTaskRequest.newBuilder().setId(unknown).build()));
      assertEquals(Status.Code.NOT_FOUND, missing.code());
      assertEquals("TASK_NOT_FOUND", missing.reason());
    }
  }

  @Test
  void wrong_password_is_reported_with_its_reason() throws Exception {
    signUp(server.address("gateway"), "wrong@example.org");
    var builder = TaskeyClient.builder(server.address("gateway")).plaintext();
    try (var client = builder.password("wrong@example.org", "not the right passphrase").build()) {
      var tasks = TaskServiceGrpc.newBlockingStub(client.channel());
      assertEquals("CREDENTIALS_INVALID", failure(() -> tasks.createTask(create("x"))).reason());
    }
  }

  @Test
  void list_returns_the_items_of_all_pages() throws Exception {
    try (var client = logIn("pages@example.org")) {
      var tasks = TaskServiceGrpc.newBlockingStub(client.channel());
      for (int i = 0; i < 7; i++) {
        tasks.createTask(create("Task " + i));
      }
      var request = ListTasksRequest.newBuilder().setPageSize(3).build();
      var titles =
          client
              .list(request, tasks::listTasks, ListTasksResponse::getTasksList)
              .map(Task::getTitle)
              .toList();
      assertEquals(7, titles.size());
      assertEquals(7, titles.stream().distinct().count());
    }
  }

  @Test
  void deadline_of_the_caller_is_kept() throws Exception {
    try (var client = logIn("deadline@example.org")) {
      var tasks = TaskServiceGrpc.newBlockingStub(client.channel());
      TaskeyError error =
          failure(() -> tasks.withDeadlineAfter(1, TimeUnit.MICROSECONDS).createTask(create("x")));
      assertEquals(Status.Code.DEADLINE_EXCEEDED, error.code());
    }
  }

  @Test
  void cancellation_ends_a_watch() throws Exception {
    try (var client = logIn("cancel@example.org")) {
      client.accessToken().get();
      Context.CancellableContext context = Context.current().withCancellation();
      TaskWatch watch = context.call(() -> client.watchTasks(""));
      assertTrue(watch.next().checkpoint());
      new Thread(() -> context.cancel(null)).start();
      assertEquals(Status.Code.CANCELLED, failure(watch::next).code());
    }
  }

  @Test
  void unknown_enum_values_and_fields_are_kept() throws Exception {
    var task = Task.newBuilder().setPriorityValue(99).build().toByteString();
    var unknown = com.google.protobuf.ByteString.copyFrom(new byte[] {(byte) 0xfa, 0x3f, 1, 'x'});
    Task parsed = Task.parseFrom(task.concat(unknown));
    assertEquals(Task.Priority.UNRECOGNIZED, parsed.getPriority());
    assertEquals(99, parsed.getPriorityValue());
    assertEquals(task.concat(unknown), parsed.toByteString());
  }
}
