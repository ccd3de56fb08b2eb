package dev.taskey.verifier;

import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.UUID;

/**
 * The claims of a verified access token, or of a personal access token.
 *
 * @param issuer the claim {@code iss}
 * @param audience the claim {@code aud}
 * @param userId the claim {@code sub}
 * @param sessionId the claim {@code sid}
 * @param tokenId the claim {@code jti}, or the id of a personal access token
 * @param issuedAt the claim {@code iat}, in seconds since the Unix epoch; for a personal access
 *     token, when it was exchanged
 * @param expiresAt the claim {@code exp}, in seconds since the Unix epoch
 * @param roles the roles of the user
 * @param scopes what the token permits; without it, all that the roles do
 * @param authenticationMethods how the user logged in (RFC 8176), such as {@code pwd} and {@code
 *     otp}; empty if unknown
 * @param authenticatedAt when the user last proved who they are, in seconds since the Unix epoch
 * @param actor the service that acts for the user
 * @param isPersonalAccessToken whether the token is a personal access token
 */
public record AccessClaims(
    String issuer,
    String audience,
    UUID userId,
    UUID sessionId,
    UUID tokenId,
    long issuedAt,
    long expiresAt,
    List<String> roles,
    Optional<List<String>> scopes,
    List<String> authenticationMethods,
    OptionalLong authenticatedAt,
    Optional<Actor> actor,
    boolean isPersonalAccessToken) {

  /**
   * A service that acts for the user of a token (RFC 8693, section 4.1).
   *
   * @param subject the id of the service
   * @param sessionId the session of the service, after whose end the token is refused
   * @param actor the service for which this one acts in turn
   */
  public record Actor(UUID subject, Optional<UUID> sessionId, Optional<Actor> actor) {}

  /**
   * Checks that the user has proved the password or a second factor at most this long ago. The
   * tokens of programs, which have scopes, no time and no actor, are exempt. After this error, the
   * client of the user calls {@code AccountService.Reauthenticate}, and repeats the call with the
   * new token.
   *
   * @throws StatusRuntimeException PERMISSION_DENIED / STEP_UP_REQUIRED, which a handler passes to
   *     {@code StreamObserver.onError}
   */
  public void requireFresh(Duration maxAge) {
    requireFresh(maxAge, Instant.now());
  }

  void requireFresh(Duration maxAge, Instant now) {
    boolean isFresh = scopes.isPresent() && actor.isEmpty();
    if (authenticatedAt.isPresent()) {
      Instant oldest = now.minus(maxAge).minusSeconds(Tokens.LEEWAY);
      isFresh = !Instant.ofEpochSecond(authenticatedAt.getAsLong()).isBefore(oldest);
    }
    if (!isFresh) {
      throw Errors.stepUpRequired(maxAge);
    }
  }

  /** Returns whether the token has a scope, such as {@code tasks.read}. */
  public boolean permits(String scope) {
    return scopes.isEmpty() || scopes.get().contains(scope);
  }
}
