package dev.taskey.verifier;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.taskey.auth.v1.AuthServiceGrpc;
import dev.taskey.auth.v1.SignUpRequest;
import dev.taskey.client.TaskeyClient;
import dev.taskey.client.TaskeyError;
import dev.taskey.support.Proxy;
import dev.taskey.support.Server;
import dev.taskey.task.v1.GetTaskRequest;
import dev.taskey.task.v1.Task;
import dev.taskey.task.v1.TaskServiceGrpc;
import dev.taskey.task.v1.WatchTasksRequest;
import dev.taskey.task.v1.WatchTasksResponse;
import io.grpc.ClientInterceptor;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.InsecureServerCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.UUID;
import java.util.function.BooleanSupplier;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** The verifier against a real server. */
class VerifierTest {
  private static final String PASSWORD = "a long enough passphrase";

  /** No server listens on it. */
  private static final int UNREACHABLE_PORT = 0;

  private Server server;
  private Proxy proxy;
  private ManagedChannel channel;

  @BeforeEach
  void start() throws Exception {
    server = new Server();
    proxy = new Proxy(server.port("auth"));
    channel = Grpc.newChannelBuilder(proxy.address(), InsecureChannelCredentials.create()).build();
    try (var guest = TaskeyClient.builder(server.address("gateway")).plaintext().build()) {
      var request =
          SignUpRequest.newBuilder().setEmail("ann@example.org").setPassword(PASSWORD).build();
      AuthServiceGrpc.newBlockingStub(guest.channel()).signUp(request);
    }
  }

  @AfterEach
  void stop() throws Exception {
    channel.shutdownNow();
    proxy.close();
    server.close();
  }

  private Verifier.Builder verifier() {
    return Verifier.builder(channel).keyFile(server.keyFile());
  }

  private TaskeyClient logIn() throws Exception {
    return TaskeyClient.builder(server.address("gateway"))
        .plaintext()
        .password("ann@example.org", PASSWORD)
        .build();
  }

  private static void await(Duration limit, BooleanSupplier condition) throws Exception {
    Instant end = Instant.now().plus(limit);
    while (!condition.getAsBoolean()) {
      assertTrue(Instant.now().isBefore(end), "not in time");
      Thread.sleep(10);
    }
  }

  private static String refusal(Runnable call) {
    return TaskeyError.from(assertThrows(StatusRuntimeException.class, call::run)).reason();
  }

  private static boolean isRefused(Runnable call, String reason) {
    try {
      call.run();
      return false;
    } catch (StatusRuntimeException e) {
      assertEquals(reason, TaskeyError.from(e).reason());
      return true;
    }
  }

  @Test
  void logout_is_refused_within_a_second() throws Exception {
    try (Verifier verifier = verifier().build()) {
      await(Duration.ofSeconds(5), () -> verifier.state() == Verifier.State.FRESH);
      for (int round = 0; round < 10; round++) {
        try (TaskeyClient client = logIn()) {
          String token = client.accessToken().get();
          verifier.verify(token);
          client.logout();
          await(
              Duration.ofSeconds(1),
              () -> isRefused(() -> verifier.verify(token), "TOKEN_REVOKED"));
        }
      }
    }
  }

  @Test
  void stale_revocations_are_used_until_the_maximum_staleness() throws Exception {
    proxy.setTarget(UNREACHABLE_PORT);
    try (TaskeyClient client = logIn();
        Verifier verifier = verifier().maxStaleness(Duration.ofSeconds(5)).build()) {
      String token = client.accessToken().get();
      assertEquals("VERIFIER_NOT_READY", refusal(() -> verifier.verify(token)));
      proxy.setTarget(server.port("auth"));
      await(Duration.ofSeconds(10), () -> verifier.state() == Verifier.State.FRESH);
      server.stop();
      await(Duration.ofSeconds(5), () -> verifier.state() == Verifier.State.STALE);
      verifier.verify(token);
      await(Duration.ofSeconds(5), () -> verifier.state() == Verifier.State.EXPIRED);
      assertEquals("VERIFIER_NOT_READY", refusal(() -> verifier.verify(token)));
      server.start();
      proxy.setTarget(server.port("auth"));
      await(Duration.ofSeconds(10), () -> verifier.state() == Verifier.State.FRESH);
      verifier.verify(token);
    }
  }

  @Test
  void half_open_connection_is_replaced() throws Exception {
    try (Verifier verifier = verifier().build()) {
      await(Duration.ofSeconds(5), () -> verifier.state() == Verifier.State.FRESH);
      proxy.freeze();
      await(Duration.ofSeconds(5), () -> verifier.state() == Verifier.State.STALE);
      await(Duration.ofSeconds(10), () -> verifier.state() == Verifier.State.FRESH);
    }
  }

  @Test
  void interceptor_refuses_calls_and_ends_streams() throws Exception {
    try (Verifier verifier = verifier().build();
        TaskeyClient client = logIn()) {
      var grpc = startService(verifier);
      await(Duration.ofSeconds(5), () -> verifier.state() == Verifier.State.FRESH);
      String token = client.accessToken().get();
      String address = "localhost:" + grpc.getPort();
      try (var caller = TaskeyClient.builder(address).plaintext().accessToken(token).build();
          var stranger = TaskeyClient.builder(address).plaintext().accessToken("garbage").build();
          var guest = TaskeyClient.builder(address).plaintext().build()) {
        var request = GetTaskRequest.getDefaultInstance();
        Task task = TaskServiceGrpc.newBlockingStub(caller.channel()).getTask(request);
        assertEquals(verifier.verify(token).userId(), UUID.fromString(task.getId()));
        assertEquals(
            "TOKEN_INVALID",
            refusal(() -> TaskServiceGrpc.newBlockingStub(stranger.channel()).getTask(request)));
        assertEquals(
            "TOKEN_MISSING",
            refusal(() -> TaskServiceGrpc.newBlockingStub(guest.channel()).getTask(request)));

        var stream =
            TaskServiceGrpc.newBlockingStub(caller.channel())
                .withInterceptors(requestId("watch"))
                .watchTasks(WatchTasksRequest.getDefaultInstance());
        stream.next();
        client.logout();
        var end = assertThrows(StatusRuntimeException.class, stream::next);
        assertEquals("TOKEN_REVOKED", TaskeyError.from(end).reason());
        assertEquals("watch", TaskeyError.from(end).requestId());
      } finally {
        grpc.shutdownNow();
      }
    }
  }

  private static io.grpc.Server startService(Verifier verifier) throws IOException {
    return Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create())
        .intercept(new AuthInterceptor(verifier))
        .addService(new Service())
        .build()
        .start();
  }

  private static ClientInterceptor requestId(String id) {
    Metadata headers = new Metadata();
    headers.put(Metadata.Key.of("x-request-id", Metadata.ASCII_STRING_MARSHALLER), id);
    return MetadataUtils.newAttachHeadersInterceptor(headers);
  }

  @Test
  void refusals_have_the_id_of_the_caller_if_it_is_usable() throws Exception {
    try (Verifier verifier = verifier().build()) {
      var grpc = startService(verifier);
      String address = "localhost:" + grpc.getPort();
      try (var guest = TaskeyClient.builder(address).plaintext().build()) {
        var tasks = TaskServiceGrpc.newBlockingStub(guest.channel());
        var request = GetTaskRequest.getDefaultInstance();
        for (String id : List.of("call", "two words")) {
          var stub = tasks.withInterceptors(requestId(id));
          var refusal = assertThrows(StatusRuntimeException.class, () -> stub.getTask(request));
          String returned = TaskeyError.from(refusal).requestId();
          assertEquals(id.equals("call"), returned.equals(id));
          assertFalse(returned.isEmpty());
        }
      } finally {
        grpc.shutdownNow();
      }
    }
  }

  @Test
  void filter_refuses_requests() throws Exception {
    var http =
        com.sun.net.httpserver.HttpServer.create(new java.net.InetSocketAddress("localhost", 0), 0);
    try (Verifier verifier = verifier().build();
        TaskeyClient client = logIn()) {
      var context = http.createContext("/", exchange -> exchange.sendResponseHeaders(204, -1));
      context.getFilters().add(new AuthFilter(verifier));
      http.start();
      await(Duration.ofSeconds(5), () -> verifier.state() == Verifier.State.FRESH);
      var uri = java.net.URI.create("http://localhost:" + http.getAddress().getPort());
      var request =
          HttpRequest.newBuilder(uri)
              .header("authorization", "bearer " + client.accessToken().get())
              .build();
      var sender = HttpClient.newHttpClient();
      assertEquals(204, sender.send(request, BodyHandlers.discarding()).statusCode());
      var guest = HttpRequest.newBuilder(uri).header("x-request-id", "call").build();
      var refused = sender.send(guest, BodyHandlers.ofString());
      assertEquals(401, refused.statusCode());
      assertTrue(
          refused.body().contains("\"reason\":\"TOKEN_MISSING\",\"domain\":\"taskey\""),
          refused.body());
      assertTrue(refused.body().contains("\"requestId\":\"call\""), refused.body());
    } finally {
      http.stop(0);
    }
  }

  @Test
  void too_many_revocations_are_replaced_by_a_time() {
    RevocationView view = new RevocationView(Duration.ofSeconds(30));
    view.addSnapshot(List.of(), Instant.MIN);
    view.add(java.util.stream.Stream.generate(UUID::randomUUID).limit(1_000_001).toList());
    long now = Instant.now().getEpochSecond();
    var user = UUID.randomUUID();
    AccessClaims old = claims(user, now, Optional.empty());
    assertEquals("TOKEN_EXPIRED", refusal(() -> view.check(old)));
    view.check(claims(user, now + 10, Optional.empty()));
  }

  @Test
  void token_is_revoked_with_the_session_of_any_service_that_acts_for_the_user() {
    RevocationView view = new RevocationView(Duration.ofSeconds(30));
    UUID revoked = UUID.randomUUID();
    view.addSnapshot(List.of(revoked), Instant.MIN);
    view.add(List.of());
    AccessClaims direct = actedFor(Optional.of(actor(revoked, Optional.empty())));
    assertEquals("TOKEN_REVOKED", refusal(() -> view.check(direct)));
    var first = Optional.of(actor(revoked, Optional.empty()));
    AccessClaims indirect = actedFor(Optional.of(actor(UUID.randomUUID(), first)));
    assertEquals("TOKEN_REVOKED", refusal(() -> view.check(indirect)));
    var unknown = new AccessClaims.Actor(UUID.randomUUID(), Optional.empty(), Optional.empty());
    view.check(actedFor(Optional.of(actor(UUID.randomUUID(), Optional.of(unknown)))));
  }

  private static AccessClaims.Actor actor(UUID session, Optional<AccessClaims.Actor> actor) {
    return new AccessClaims.Actor(UUID.randomUUID(), Optional.of(session), actor);
  }

  private static AccessClaims actedFor(Optional<AccessClaims.Actor> actor) {
    return claims(UUID.randomUUID(), Instant.now().getEpochSecond(), actor);
  }

  private static AccessClaims claims(UUID id, long issuedAt, Optional<AccessClaims.Actor> actor) {
    return new AccessClaims(
        "",
        "",
        id,
        id,
        id,
        issuedAt,
        issuedAt + 300,
        List.of(),
        Optional.empty(),
        List.of(),
        OptionalLong.empty(),
        actor,
        false);
  }

  private static final class Service extends TaskServiceGrpc.TaskServiceImplBase {
    @Override
    public void getTask(GetTaskRequest request, StreamObserver<Task> response) {
      response.onNext(
          Task.newBuilder().setId(AuthInterceptor.CALLER.get().userId().toString()).build());
      response.onCompleted();
    }

    @Override
    public void watchTasks(WatchTasksRequest request, StreamObserver<WatchTasksResponse> response) {
      response.onNext(WatchTasksResponse.getDefaultInstance());
    }
  }
}
