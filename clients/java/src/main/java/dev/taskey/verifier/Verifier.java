package dev.taskey.verifier;

import com.nimbusds.jwt.JWTClaimsSet;
import dev.taskey.auth.v1.ExchangePersonalAccessTokenRequest;
import dev.taskey.auth.v1.ExchangePersonalAccessTokenResponse;
import dev.taskey.auth.v1.JwkSet;
import dev.taskey.auth.v1.TokenServiceGrpc;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.Date;
import java.util.List;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.function.UnaryOperator;
import java.util.logging.Level;
import java.util.logging.Logger;

/**
 * Verifies access tokens in memory. It follows the revocations of auth-service, and refuses the
 * tokens of a session within a second of its logout. Thread-safe.
 */
public final class Verifier implements AutoCloseable {
  /** How fresh the revocations are. */
  public enum State {
    /** No revocations have been received since the start; no token is accepted. */
    COLD,
    /** The last message was received at most 3 s ago. */
    FRESH,
    /** Messages are missing, but for less than the maximum staleness. Tokens are accepted. */
    STALE,
    /** Messages have been missing for longer than the maximum staleness; no token is accepted. */
    EXPIRED;

    boolean acceptsTokens() {
      return this == FRESH || this == STALE;
    }
  }

  private static final Logger LOGGER = Logger.getLogger(Verifier.class.getName());
  private static final long KEY_POLL_SECONDS = 2;

  private final Builder settings;
  private final Tokens tokens;
  private final RevocationView view;
  private final RevocationFeed feed;
  private final ScheduledThreadPoolExecutor scheduler;
  private final PersonalTokens personalTokens;
  private final UUID ownId = UUID.randomUUID();
  private volatile Keys keys;

  private Verifier(Builder builder) throws IOException {
    settings = builder;
    tokens = new Tokens(builder.issuer, builder.audience);
    view = new RevocationView(builder.maxStaleness);
    personalTokens =
        new PersonalTokens(this::exchange, builder.issuer, builder.audience, System::nanoTime);
    scheduler =
        new ScheduledThreadPoolExecutor(
            1,
            task -> {
              Thread thread = new Thread(task, "taskey-verifier");
              thread.setDaemon(true);
              return thread;
            });
    if (builder.keyFile != null) {
      keys = Keys.parse(Files.readString(builder.keyFile), Instant.now());
      scheduler.scheduleWithFixedDelay(
          this::readKeys, KEY_POLL_SECONDS, KEY_POLL_SECONDS, TimeUnit.SECONDS);
    } else if (builder.serviceToken == null) {
      throw new IllegalArgumentException("a verifier needs a key file or a service token");
    }
    feed =
        new RevocationFeed(builder.channel, view, this::receiveKeys, this::credential, scheduler);
    feed.start();
  }

  /**
   * Creates a verifier that follows the revocations over a channel to auth-service or the gateway.
   */
  public static Builder builder(ManagedChannel channel) {
    return new Builder(channel);
  }

  /**
   * Returns the claims of an access token, without I/O.
   *
   * @throws StatusRuntimeException UNAUTHENTICATED with the reason TOKEN_INVALID, TOKEN_EXPIRED or
   *     TOKEN_REVOKED; or UNAVAILABLE / VERIFIER_NOT_READY while revocations are not received
   */
  public AccessClaims verify(String token) {
    State state = view.state();
    Keys current = keys;
    if (!state.acceptsTokens() || current == null) {
      throw Errors.notReady();
    }
    AccessClaims claims;
    try {
      claims = tokens.verify(current, token, Instant.now());
    } catch (Tokens.UnknownKeyException e) {
      // New keys are received with the revocations, so they may be missing too.
      throw state == State.FRESH ? Errors.invalid() : Errors.notReady();
    }
    view.check(claims);
    return claims;
  }

  /**
   * Returns the claims of an access token, or of a personal access token that a client has sent.
   * The first call with a personal access token waits for its exchange at auth-service.
   *
   * @param client the address of the client; if it is null, tokens that are limited to networks are
   *     refused
   * @throws StatusRuntimeException as {@link #verify}
   */
  public AccessClaims verify(String token, InetAddress client) {
    if (!token.startsWith(PersonalTokens.PREFIX)) {
      return verify(token);
    } else if (!view.state().acceptsTokens()) {
      throw Errors.notReady();
    }
    AccessClaims claims = personalTokens.verify(token, client, this::isCurrent);
    checkStillValid(claims);
    return claims;
  }

  /**
   * Verifies the value of an {@code authorization} header, or null if there is none, from a client
   * at this address, which is null if it is unknown.
   */
  public AccessClaims authenticate(String authorization, InetAddress client) {
    if (authorization == null) {
      throw Errors.missing();
    } else if (!authorization.regionMatches(true, 0, "Bearer ", 0, 7)) {
      throw Errors.invalid();
    }
    return verify(authorization.substring(7), client);
  }

  /**
   * Throws PERMISSION_DENIED / SCOPE_MISSING unless a token has a scope, such as {@code
   * tasks.read}. With an empty scope, tokens with scopes are refused.
   */
  public static void requireScope(AccessClaims claims, String scope) {
    boolean isPermitted = claims.scopes().isEmpty() || claims.scopes().get().contains(scope);
    if (!isPermitted) {
      throw Errors.scopeMissing(scope);
    }
  }

  private boolean isCurrent(AccessClaims claims) {
    try {
      checkStillValid(claims);
      return true;
    } catch (StatusRuntimeException e) {
      return false;
    }
  }

  /** Returns the address of the client of a call. */
  InetAddress clientAddress(SocketAddress peer, UnaryOperator<String> header) {
    InetAddress address = peer instanceof InetSocketAddress socket ? socket.getAddress() : null;
    return settings.clientAddress.resolve(address, header);
  }

  private Optional<ExchangePersonalAccessTokenResponse> exchange(String token, String client) {
    var request =
        ExchangePersonalAccessTokenRequest.newBuilder().setToken(token).setClientAddress(client);
    try {
      return Optional.of(
          TokenServiceGrpc.newBlockingStub(settings.channel)
              .withInterceptors(RevocationFeed.authorization(credential()))
              .withDeadlineAfter(PersonalTokens.EXCHANGE_TIMEOUT.toMillis(), TimeUnit.MILLISECONDS)
              .withWaitForReady()
              .exchangePersonalAccessToken(request.build()));
    } catch (Exception e) {
      if (Status.fromThrowable(e).getCode() == Status.Code.NOT_FOUND) {
        return Optional.empty();
      }
      throw Errors.noExchange();
    }
  }

  /** Throws if a token that was verified before is not valid any more. */
  public void checkStillValid(AccessClaims claims) {
    if (Tokens.hasExpired(claims, Instant.now())) {
      throw Errors.expired();
    }
    view.check(claims);
  }

  /** Returns how fresh the revocations are. */
  public State state() {
    return view.state();
  }

  /** Stops following the revocations. Does not close the channel. */
  @Override
  public void close() {
    feed.close();
    scheduler.shutdownNow();
  }

  ScheduledThreadPoolExecutor scheduler() {
    return scheduler;
  }

  private void receiveKeys(JwkSet received) throws IOException {
    if (settings.keyFile == null) {
      keys = Keys.received(received);
    }
  }

  private void readKeys() {
    try {
      keys = Keys.parse(Files.readString(settings.keyFile), Instant.now());
    } catch (IOException e) {
      LOGGER.log(
          Level.SEVERE,
          "cannot read the key file; the previous keys remain in use: {0}",
          e.getMessage());
    }
  }

  private String credential() throws Exception {
    if (settings.serviceToken != null) {
      return settings.serviceToken;
    }
    Instant now = Instant.now();
    return keys.sign(
        new JWTClaimsSet.Builder()
            .issuer(settings.issuer)
            .audience(settings.audience)
            .subject(ownId.toString())
            .claim("sid", ownId.toString())
            .jwtID(UUID.randomUUID().toString())
            .issueTime(Date.from(now))
            .expirationTime(Date.from(now.plusSeconds(Tokens.MAX_LIFETIME)))
            .claim("roles", List.of("verifier"))
            .build());
  }

  /** Settings of a verifier. */
  public static final class Builder {
    private final ManagedChannel channel;
    private String issuer = "taskey";
    private String audience = "taskey";
    private Path keyFile;
    private String serviceToken;
    private Duration maxStaleness = Duration.ofSeconds(30);
    private ClientAddress clientAddress = (peer, header) -> peer;

    private Builder(ManagedChannel channel) {
      this.channel = channel;
    }

    /** Sets the issuer of tokens; {@code taskey} by default. */
    public Builder issuer(String issuer) {
      this.issuer = issuer;
      return this;
    }

    /** Sets the audience of tokens; {@code taskey} by default. */
    public Builder audience(String audience) {
      this.audience = audience;
      return this;
    }

    /**
     * Reads the keys from a JWK Set, and reads it again every 2 s. Without it, the public keys of
     * the feed are used. A verifier without a service token signs its own token with the first key.
     */
    public Builder keyFile(Path file) {
      keyFile = file;
      return this;
    }

    /** Authenticates the verifier with a token of the scope {@code tokens.verify}. */
    public Builder serviceToken(String token) {
      serviceToken = token;
      return this;
    }

    /**
     * Sets how long tokens are accepted while no revocations are received; 30 s by default, and at
     * least 3 s.
     */
    public Builder maxStaleness(Duration duration) {
      maxStaleness = duration;
      return this;
    }

    /**
     * Determines the addresses of clients; by default, those of the peers. Behind a proxy, use the
     * header that it writes.
     */
    public Builder clientAddress(ClientAddress clientAddress) {
      this.clientAddress = clientAddress;
      return this;
    }

    /** Returns the verifier, which has begun to follow the revocations. */
    public Verifier build() throws IOException {
      return new Verifier(this);
    }
  }
}
