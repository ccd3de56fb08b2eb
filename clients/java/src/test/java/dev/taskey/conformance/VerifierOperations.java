package dev.taskey.conformance;

import static dev.taskey.conformance.ClientOperations.text;

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.sun.net.httpserver.HttpServer;
import dev.taskey.task.v1.GetTaskRequest;
import dev.taskey.task.v1.Task;
import dev.taskey.task.v1.TaskServiceGrpc;
import dev.taskey.verifier.AccessClaims;
import dev.taskey.verifier.AuthFilter;
import dev.taskey.verifier.AuthInterceptor;
import dev.taskey.verifier.TokensForTests;
import dev.taskey.verifier.Verifier;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.InsecureServerCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Server;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.StreamObserver;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** The operations of verifiers. */
final class VerifierOperations {
  private record Running(ManagedChannel channel, Verifier verifier, Server grpc, HttpServer http) {}

  private final Map<String, Running> verifiers = new ConcurrentHashMap<>();

  JsonObject execute(String operation, JsonObject request) throws Exception {
    JsonObject result = new JsonObject();
    switch (operation) {
      case "verify_vector" ->
          result.add(
              "claims",
              claims(
                  TokensForTests.verify(
                      request.get("keys").toString(),
                      text(request, "issuer"),
                      text(request, "audience"),
                      Instant.ofEpochSecond(request.get("now").getAsLong()),
                      text(request, "token"))));
      case "verifier" -> {
        Running running = start(request);
        verifiers.put(text(request, "verifier"), running);
        result.addProperty("grpc", "127.0.0.1:" + running.grpc.getPort());
        result.addProperty("http", "127.0.0.1:" + running.http.getAddress().getPort());
      }
      case "verify" -> {
        boolean hasAddress = request.has("client_address");
        String address = hasAddress ? text(request, "client_address") : null;
        AccessClaims claims =
            verifier(request)
                .verify(text(request, "token"), hasAddress ? InetAddress.getByName(address) : null);
        if (request.has("max_age_s")) {
          claims.requireFresh(Duration.ofSeconds(request.get("max_age_s").getAsLong()));
        }
        result.add("claims", claims(claims));
      }
      case "state" -> result.addProperty("state", verifier(request).state().name());
      case "close_verifier" -> {
        Running running = verifiers.remove(text(request, "verifier"));
        running.grpc.shutdownNow();
        running.http.stop(0);
        running.verifier.close();
        running.channel.shutdownNow();
      }
      default -> throw new IllegalArgumentException("unknown operation: " + operation);
    }
    return result;
  }

  private Verifier verifier(JsonObject request) {
    return verifiers.get(text(request, "verifier")).verifier;
  }

  private static Running start(JsonObject request) throws Exception {
    ManagedChannel channel =
        Grpc.newChannelBuilder(text(request, "address"), InsecureChannelCredentials.create())
            .build();
    Verifier.Builder builder =
        Verifier.builder(channel)
            .issuer(text(request, "issuer"))
            .audience(text(request, "audience"));
    if (request.has("key_file")) {
      builder.keyFile(Path.of(text(request, "key_file")));
    }
    if (request.has("service_token")) {
      builder.serviceToken(text(request, "service_token"));
    }
    if (request.has("max_staleness_ms")) {
      builder.maxStaleness(Duration.ofMillis(request.get("max_staleness_ms").getAsLong()));
    }
    Verifier verifier = builder.build();
    InetSocketAddress local = new InetSocketAddress(InetAddress.getLoopbackAddress(), 0);
    Server grpc =
        NettyServerBuilder.forAddress(local, InsecureServerCredentials.create())
            .intercept(new AuthInterceptor(verifier))
            .addService(new OwnerService())
            .build()
            .start();
    HttpServer http = HttpServer.create(local, 0);
    http.createContext(
            "/",
            exchange -> {
              AccessClaims caller = (AccessClaims) exchange.getAttribute(AuthFilter.CALLER);
              byte[] body =
                  ("{\"sub\":\"" + caller.userId() + "\"}").getBytes(StandardCharsets.UTF_8);
              exchange.sendResponseHeaders(200, body.length);
              exchange.getResponseBody().write(body);
              exchange.close();
            })
        .getFilters()
        .add(new AuthFilter(verifier, "tasks.read"));
    http.start();
    return new Running(channel, verifier, grpc, http);
  }

  private static JsonObject claims(AccessClaims claims) {
    JsonObject json = new JsonObject();
    json.addProperty("iss", claims.issuer());
    json.addProperty("aud", claims.audience());
    json.addProperty("sub", claims.userId().toString());
    json.addProperty("sid", claims.sessionId().toString());
    json.addProperty("jti", claims.tokenId().toString());
    json.addProperty("iat", claims.issuedAt());
    json.addProperty("exp", claims.expiresAt());
    json.add("roles", new Gson().toJsonTree(claims.roles()));
    claims.scopes().ifPresent(scopes -> json.addProperty("scope", String.join(" ", scopes)));
    json.add("amr", new Gson().toJsonTree(claims.authenticationMethods()));
    claims.authenticatedAt().ifPresent(time -> json.addProperty("auth_time", time));
    claims.actor().ifPresent(actor -> json.add("act", actor(actor)));
    return json;
  }

  private static JsonObject actor(AccessClaims.Actor actor) {
    JsonObject json = new JsonObject();
    json.addProperty("sub", actor.subject().toString());
    actor.sessionId().ifPresent(session -> json.addProperty("sid", session.toString()));
    actor.actor().ifPresent(inner -> json.add("act", actor(inner)));
    return json;
  }

  /** Returns a task whose id is that of the caller. */
  private static final class OwnerService extends TaskServiceGrpc.TaskServiceImplBase {
    @Override
    public void getTask(GetTaskRequest request, StreamObserver<Task> response) {
      response.onNext(
          Task.newBuilder().setId(AuthInterceptor.CALLER.get().userId().toString()).build());
      response.onCompleted();
    }
  }
}
