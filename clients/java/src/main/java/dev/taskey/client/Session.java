package dev.taskey.client;

import com.google.gson.JsonParser;
import dev.taskey.auth.v1.AuthServiceGrpc;
import dev.taskey.auth.v1.AuthServiceGrpc.AuthServiceBlockingStub;
import dev.taskey.auth.v1.LoginRequest;
import dev.taskey.auth.v1.LogoutRequest;
import dev.taskey.auth.v1.RefreshRequest;
import dev.taskey.auth.v1.TokenPair;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.MetadataUtils;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Base64;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/** Provides access tokens: logs in, and refreshes the session, one call at a time. */
final class Session {
  /** A user's password, or a token that is sent as it is. */
  record Credentials(String email, String password, String bearer) {
    @Override
    public String toString() {
      return "Credentials[***]";
    }
  }

  /** The tokens, and when they expire, in terms of {@link System#nanoTime}. */
  private record Tokens(
      String access, String refresh, long refreshAt, long accessEnd, long sessionEnd) {}

  /** After these codes, the response may have been lost, or another attempt may succeed. */
  private static final Set<Status.Code> TRANSIENT =
      Set.of(
          Status.Code.UNAVAILABLE,
          Status.Code.DEADLINE_EXCEEDED,
          Status.Code.CANCELLED,
          Status.Code.INTERNAL,
          Status.Code.UNKNOWN,
          Status.Code.RESOURCE_EXHAUSTED);

  private static final int ATTEMPTS = 5;
  private static final Duration ATTEMPT_TIMEOUT = Duration.ofSeconds(5);
  private static final Duration MAX_DELAY = Duration.ofSeconds(5);

  private final ManagedChannel channel;
  private final Credentials credentials;
  private final Executor executor;
  private Tokens tokens;
  private CompletableFuture<String> renewal;
  private StatusRuntimeException ended;

  Session(ManagedChannel channel, Credentials credentials, Executor executor) {
    this.channel = channel;
    this.credentials = credentials;
    this.executor = executor;
  }

  /**
   * Returns a token, or null if the client has no credentials. Starts a refresh ahead of the
   * expiry.
   */
  synchronized CompletableFuture<String> token() {
    if (credentials.password() == null) {
      return CompletableFuture.completedFuture(credentials.bearer());
    } else if (ended != null) {
      return CompletableFuture.failedFuture(ended);
    }
    long now = System.nanoTime();
    if ((tokens == null || now - tokens.refreshAt >= 0) && renewal == null) {
      renewal = CompletableFuture.supplyAsync(this::renew, executor);
    }
    boolean usable = tokens != null && now - tokens.accessEnd < 0;
    return usable ? CompletableFuture.completedFuture(tokens.access) : renewal;
  }

  /**
   * Replaces a token that the server refused as expired. Returns whether there can be another one.
   */
  synchronized boolean replace(String refused) {
    if (tokens != null && tokens.access.equals(refused)) {
      long now = System.nanoTime();
      tokens = new Tokens(refused, tokens.refresh, now, now, tokens.sessionEnd);
    }
    return credentials.password() != null;
  }

  /** Revokes the session and forgets its tokens. The next call logs in again. */
  void logout() {
    CompletableFuture<String> running;
    synchronized (this) {
      running = renewal;
    }
    if (running != null) {
      running.exceptionally(failure -> null).join();
    }
    Tokens last;
    synchronized (this) {
      last = tokens;
      tokens = null;
      ended = null;
    }
    if (last != null) {
      var request = LogoutRequest.newBuilder().setRefreshToken(last.refresh).build();
      attempt(() -> stub().logout(request));
    } else if (credentials.bearer() != null) {
      var headers =
          MetadataUtils.newAttachHeadersInterceptor(TaskeyCall.authorization(credentials.bearer()));
      attempt(() -> stub().withInterceptors(headers).logout(LogoutRequest.getDefaultInstance()));
    }
  }

  private String renew() {
    Tokens old;
    synchronized (this) {
      old = tokens;
    }
    try {
      Tokens renewed = old == null ? login() : refresh(old);
      synchronized (this) {
        tokens = renewed;
        renewal = null;
      }
      return renewed.access;
    } catch (StatusRuntimeException e) {
      synchronized (this) {
        renewal = null;
        // Another attempt with these credentials would fail in the same way, or end the session of
        // somebody else.
        boolean isFinal =
            e.getStatus().getCode() == Status.Code.UNAUTHENTICATED
                || e.getStatus().getCode() == Status.Code.ABORTED;
        ended = isFinal ? e : null;
        if (tokens != null && !isFinal) {
          long later = System.nanoTime() + TimeUnit.SECONDS.toNanos(1);
          tokens =
              new Tokens(tokens.access, tokens.refresh, later, tokens.accessEnd, tokens.sessionEnd);
        }
      }
      throw e;
    }
  }

  private Tokens login() {
    var request =
        LoginRequest.newBuilder()
            .setEmail(credentials.email())
            .setPassword(credentials.password())
            .build();
    return attempt(() -> tokens(System.nanoTime(), stub().login(request)));
  }

  /**
   * Sends the same refresh token until there is a response: the server repeats a response that was
   * lost.
   */
  private Tokens refresh(Tokens old) {
    var request = RefreshRequest.newBuilder().setRefreshToken(old.refresh).build();
    try {
      return attempt(() -> tokens(System.nanoTime(), stub().refresh(request)));
    } catch (StatusRuntimeException e) {
      boolean expired = System.nanoTime() - old.sessionEnd >= 0;
      if (expired && TaskeyError.from(e).reason().equals("REFRESH_TOKEN_INVALID")) {
        return login();
      }
      throw e;
    }
  }

  private AuthServiceBlockingStub stub() {
    return AuthServiceGrpc.newBlockingStub(channel)
        .withDeadlineAfter(ATTEMPT_TIMEOUT.toMillis(), TimeUnit.MILLISECONDS);
  }

  private <T> T attempt(Supplier<T> call) {
    for (int attempts = 1; ; attempts++) {
      try {
        return call.get();
      } catch (StatusRuntimeException e) {
        TaskeyError error = TaskeyError.from(e);
        Duration delay =
            error.retryAfter().orElse(ServiceConfig.INSTANCE.writes().backoff(attempts));
        boolean waits =
            error.code() != Status.Code.RESOURCE_EXHAUSTED || error.retryAfter().isPresent();
        if (attempts == ATTEMPTS
            || !TRANSIENT.contains(error.code())
            || !waits
            || delay.compareTo(MAX_DELAY) > 0) {
          throw e;
        }
        if (error.code() == Status.Code.DEADLINE_EXCEEDED) {
          // The connection may be half-open, so the next attempt uses a new one.
          channel.enterIdle();
        }
        sleep(delay);
        channel.resetConnectBackoff();
      }
    }
  }

  private static void sleep(Duration delay) {
    try {
      Thread.sleep(delay.toMillis());
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw Status.CANCELLED.withDescription("the client was closed").asRuntimeException();
    }
  }

  /**
   * Measures the lifetimes by the clock of the server and from before the call, because clocks may
   * differ.
   */
  private static Tokens tokens(long started, TokenPair pair) {
    String payload = pair.getAccessToken().split("\\.")[1];
    String json = new String(Base64.getUrlDecoder().decode(payload), StandardCharsets.UTF_8);
    long issued = JsonParser.parseString(json).getAsJsonObject().get("iat").getAsLong();
    long access = TimeUnit.SECONDS.toNanos(pair.getAccessExpireTime().getSeconds() - issued);
    long session = TimeUnit.SECONDS.toNanos(pair.getRefreshExpireTime().getSeconds() - issued);
    long refreshAt = started + access / 10 * 8;
    return new Tokens(
        pair.getAccessToken(),
        pair.getRefreshToken(),
        refreshAt,
        started + access,
        started + session);
  }
}
