package dev.taskey.client;

import com.google.protobuf.Timestamp;
import dev.taskey.auth.v1.AuthServiceGrpc;
import dev.taskey.auth.v1.AuthServiceGrpc.AuthServiceBlockingStub;
import dev.taskey.auth.v1.LoginRequest;
import dev.taskey.auth.v1.LogoutRequest;
import dev.taskey.auth.v1.RefreshRequest;
import dev.taskey.auth.v1.TokenPair;
import io.grpc.Channel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.time.Instant;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;

/** Provides access tokens: logs in, and refreshes the session, one call at a time. */
final class Session {
  /** A user's password, or a token that is sent as it is. */
  record Credentials(String email, String password, String bearer) {
    @Override
    public String toString() {
      return "Credentials[***]";
    }
  }

  /**
   * The time in which a half-open connection is noticed, so that the response of a lost refresh is
   * received on another, and less than the 60 s for which the server repeats it.
   */
  private static final Duration TIMEOUT = Duration.ofSeconds(30);

  private static final Duration DELAY_AFTER_FAILURE = Duration.ofSeconds(1);

  private final AuthServiceBlockingStub stub;
  private final Credentials credentials;
  private final Executor executor;
  private TokenPair tokens;
  // In terms of System.nanoTime, from before the call that returned the tokens.
  private long refreshTime;
  private long accessEnd;
  private long sessionEnd;
  private CompletableFuture<String> renewal;
  private StatusRuntimeException ended;

  /** The channel retries calls. */
  Session(Channel channel, Credentials credentials, Executor executor) {
    stub = AuthServiceGrpc.newBlockingStub(channel).withOption(CallInterceptor.IS_REPEATABLE, true);
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
    if (renewal == null && (tokens == null || now - refreshTime >= 0)) {
      executor.execute(this::renew);
      renewal = new CompletableFuture<>();
    }
    boolean isUsable = tokens != null && now - accessEnd < 0;
    return isUsable ? CompletableFuture.completedFuture(tokens.getAccessToken()) : renewal;
  }

  /**
   * Replaces a token that the server refused as expired. Returns whether there can be another one.
   */
  synchronized boolean replace(String refused) {
    if (tokens != null && tokens.getAccessToken().equals(refused)) {
      refreshTime = accessEnd = System.nanoTime();
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
    TokenPair last;
    synchronized (this) {
      last = tokens;
      tokens = null;
      ended = null;
    }
    var request = LogoutRequest.newBuilder();
    if (last != null) {
      stub().logout(request.setRefreshToken(last.getRefreshToken()).build());
    } else if (credentials.bearer() != null) {
      stub().withCallCredentials(new TokenCredentials(this)).logout(request.build());
    }
  }

  private void renew() {
    TokenPair old;
    CompletableFuture<String> result;
    synchronized (this) {
      old = tokens;
      result = renewal;
    }
    long started = System.nanoTime();
    try {
      TokenPair renewed = old == null ? login() : refresh(old);
      accept(renewed, started);
      result.complete(renewed.getAccessToken());
    } catch (StatusRuntimeException e) {
      fail(e);
      result.completeExceptionally(e);
    }
  }

  private synchronized void accept(TokenPair renewed, long started) {
    long access = nanos(renewed.getAccessLifetime(), renewed.getAccessExpireTime());
    long session = nanos(renewed.getRefreshLifetime(), renewed.getRefreshExpireTime());
    tokens = renewed;
    refreshTime = started + access / 10 * 8;
    accessEnd = started + access;
    sessionEnd = started + session;
    renewal = null;
  }

  /**
   * Uses the expire time, and thus the clock of this machine, if an older server sent no lifetime.
   */
  private static long nanos(com.google.protobuf.Duration lifetime, Timestamp expireTime) {
    return TimeUnit.SECONDS.toNanos(
        lifetime.getSeconds() > 0
            ? lifetime.getSeconds()
            : expireTime.getSeconds() - Instant.now().getEpochSecond());
  }

  private synchronized void fail(StatusRuntimeException failure) {
    // Another attempt with these credentials would fail in the same way, or end the session of
    // somebody else.
    Status.Code code = failure.getStatus().getCode();
    ended = code == Status.Code.UNAUTHENTICATED || code == Status.Code.ABORTED ? failure : null;
    refreshTime = System.nanoTime() + DELAY_AFTER_FAILURE.toNanos();
    renewal = null;
  }

  private TokenPair login() {
    var request =
        LoginRequest.newBuilder().setEmail(credentials.email()).setPassword(credentials.password());
    return stub().login(request.build());
  }

  /**
   * Sends the same refresh token until there is a response: the server repeats a response that was
   * lost.
   */
  private TokenPair refresh(TokenPair old) {
    try {
      var request = RefreshRequest.newBuilder().setRefreshToken(old.getRefreshToken());
      return stub().refresh(request.build());
    } catch (StatusRuntimeException e) {
      boolean hasExpired = System.nanoTime() - sessionEnd >= 0;
      if (hasExpired && TaskeyError.from(e).reason().equals("REFRESH_TOKEN_INVALID")) {
        return login();
      }
      throw e;
    }
  }

  private AuthServiceBlockingStub stub() {
    return stub.withDeadlineAfter(TIMEOUT);
  }
}
