package dev.taskey.client;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.protobuf.Duration;
import com.google.protobuf.Timestamp;
import dev.taskey.auth.v1.AuthServiceGrpc;
import dev.taskey.auth.v1.LoginRequest;
import dev.taskey.auth.v1.RefreshRequest;
import dev.taskey.auth.v1.TokenPair;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Server;
import io.grpc.stub.StreamObserver;
import java.time.Instant;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Sessions at a server that returns the tokens of the test. */
class SessionTest {
  private volatile TokenPair tokens;
  private Server server;

  @BeforeEach
  void start() throws Exception {
    var issuer =
        new AuthServiceGrpc.AuthServiceImplBase() {
          @Override
          public void login(LoginRequest request, StreamObserver<TokenPair> response) {
            response.onNext(tokens.toBuilder().setAccessToken("of the login").build());
            response.onCompleted();
          }

          @Override
          public void refresh(RefreshRequest request, StreamObserver<TokenPair> response) {
            response.onNext(tokens.toBuilder().setAccessToken("of the refresh").build());
            response.onCompleted();
          }
        };
    var builder = Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create());
    server = builder.addService(issuer).build().start();
  }

  @AfterEach
  void stop() {
    server.shutdownNow();
  }

  /** Returns the access tokens of two calls of a new client. */
  private List<String> twoTokens() throws Exception {
    var builder = TaskeyClient.builder("localhost:" + server.getPort()).plaintext();
    try (var client = builder.password("ann@example.org", TaskeyClientTest.PASSWORD).build()) {
      return List.of(client.accessToken().get(), client.accessToken().get());
    }
  }

  private static Timestamp inSeconds(long seconds) {
    return Timestamp.newBuilder().setSeconds(Instant.now().getEpochSecond() + seconds).build();
  }

  @Test
  void lifetimes_are_those_of_the_server_if_the_clock_is_wrong() throws Exception {
    tokens =
        TokenPair.newBuilder()
            .setAccessExpireTime(inSeconds(-1000))
            .setRefreshExpireTime(inSeconds(-1000))
            .setAccessLifetime(Duration.newBuilder().setSeconds(300))
            .setRefreshLifetime(Duration.newBuilder().setSeconds(3000))
            .build();
    assertEquals(List.of("of the login", "of the login"), twoTokens());
  }

  @Test
  void lifetimes_follow_from_the_expire_times_of_an_older_server() throws Exception {
    tokens = TokenPair.newBuilder().setAccessExpireTime(inSeconds(300)).build();
    assertEquals(List.of("of the login", "of the login"), twoTokens());
    tokens = TokenPair.newBuilder().setAccessExpireTime(inSeconds(-1)).build();
    assertEquals(List.of("of the login", "of the refresh"), twoTokens());
  }
}
