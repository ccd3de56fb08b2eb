package dev.taskey.verifier;

import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.Set;
import java.util.UUID;

/** Verifies access tokens: JWTs in the profile of RFC 9068, as strictly as RFC 8725 requires. */
final class Tokens {
  /** Tolerated difference between the clocks of two machines, in seconds. */
  static final long LEEWAY = 5;

  /** Maximum lifetime of access tokens, in seconds. */
  static final long MAX_LIFETIME = 15 * 60;

  private static final int MAX_LENGTH = 4096;

  /** Maximum number of services that act for a user one after another. */
  private static final int MAX_ACTORS = 3;

  private static final Set<String> HEADER = Set.of("alg", "kid", "typ");
  private static final Set<String> CLAIMS =
      Set.of(
          "iss",
          "aud",
          "sub",
          "sid",
          "jti",
          "iat",
          "exp",
          "nbf",
          "roles",
          "scope",
          "amr",
          "auth_time",
          "act");
  private static final String SCOPE = "[!#-\\[\\]-~]+";

  private final String issuer;
  private final String audience;

  Tokens(String issuer, String audience) {
    this.issuer = issuer;
    this.audience = audience;
  }

  /** The key of a token is unknown. It may be a new one that has not been received yet. */
  static final class UnknownKeyException extends Exception {
    private static final long serialVersionUID = 1;
  }

  /**
   * Verifies the format, the signature and the claims of a token, in this order.
   *
   * @throws StatusRuntimeException with the reason TOKEN_EXPIRED, or TOKEN_INVALID in all other
   *     cases
   */
  AccessClaims verify(Keys keys, String token, Instant now) throws UnknownKeyException {
    AccessClaims claims;
    try {
      claims = parse(keys, token, now);
    } catch (IOException e) {
      throw Errors.invalid();
    }
    if (hasExpired(claims, now)) {
      throw Errors.expired();
    }
    return claims;
  }

  static boolean hasExpired(AccessClaims claims, Instant now) {
    return claims.expiresAt() <= now.getEpochSecond() - LEEWAY;
  }

  private AccessClaims parse(Keys keys, String token, Instant now)
      throws IOException, UnknownKeyException {
    String[] parts = token.length() > MAX_LENGTH ? new String[0] : token.split("\\.", -1);
    check(parts.length == 3);
    Map<String, Object> header = StrictJson.parse(StrictJson.decode(parts[0]), HEADER, false);
    Keys.Key key = keys.byId(string(header, "kid"));
    if (key == null) {
      throw new UnknownKeyException();
    }
    check(
        string(header, "typ").equals("at+jwt")
            && string(header, "alg").equals(key.algorithm().getName()));
    byte[] payload = StrictJson.decode(parts[1]);
    StrictJson.decode(parts[2]);
    byte[] message = (parts[0] + "." + parts[1]).getBytes(StandardCharsets.US_ASCII);
    check(key.verifies(message, parts[2]));
    return claims(StrictJson.parse(payload, CLAIMS, true), now);
  }

  private AccessClaims claims(Map<String, Object> payload, Instant now) throws IOException {
    long issued = integer(payload, "iat");
    long expires = integer(payload, "exp");
    check(
        issued < expires
            && issued >= expires - MAX_LIFETIME
            && expires >= Long.MIN_VALUE + MAX_LIFETIME);
    AccessClaims claims =
        new AccessClaims(
            string(payload, "iss"),
            string(payload, "aud"),
            id(payload, "sub"),
            id(payload, "sid"),
            id(payload, "jti"),
            issued,
            expires,
            strings(payload, "roles"),
            payload.containsKey("scope")
                ? Optional.of(scopes(string(payload, "scope")))
                : Optional.empty(),
            payload.containsKey("amr") ? strings(payload, "amr") : List.of(),
            payload.containsKey("auth_time")
                ? OptionalLong.of(integer(payload, "auth_time"))
                : OptionalLong.empty(),
            actor(payload, MAX_ACTORS),
            false);
    check(claims.issuer().equals(issuer) && claims.audience().equals(audience));
    long validFrom =
        payload.containsKey("nbf") ? Math.max(issued, integer(payload, "nbf")) : issued;
    check(claims.authenticatedAt().orElse(issued) <= issued);
    check(validFrom <= now.getEpochSecond() + LEEWAY);
    return claims;
  }

  /**
   * Parses names that are separated by single spaces, none of them twice (RFC 6749, section 3.3).
   */
  private static List<String> scopes(String text) throws IOException {
    List<String> scopes = List.of(text.split(" ", -1));
    check(scopes.stream().allMatch(scope -> scope.matches(SCOPE)));
    check(Set.copyOf(scopes).size() == scopes.size());
    return scopes;
  }

  private static Optional<AccessClaims.Actor> actor(Map<String, Object> members, int maximum)
      throws IOException {
    if (!members.containsKey("act")) {
      return Optional.empty();
    }
    check(members.get("act") instanceof Map<?, ?> && maximum > 0);
    @SuppressWarnings("unchecked")
    Map<String, Object> actor = (Map<String, Object>) members.get("act");
    Optional<UUID> session =
        actor.containsKey("sid") ? Optional.of(id(actor, "sid")) : Optional.empty();
    return Optional.of(
        new AccessClaims.Actor(id(actor, "sub"), session, actor(actor, maximum - 1)));
  }

  private static List<String> strings(Map<String, Object> members, String name) throws IOException {
    check(members.get(name) instanceof List<?>);
    return ((List<?>) members.get(name)).stream().map(String.class::cast).toList();
  }

  private static void check(boolean condition) throws IOException {
    if (!condition) {
      throw new IOException("not a valid token");
    }
  }

  private static String string(Map<String, Object> members, String name) throws IOException {
    check(members.get(name) instanceof String);
    return (String) members.get(name);
  }

  private static long integer(Map<String, Object> members, String name) throws IOException {
    check(members.get(name) instanceof Long);
    return (Long) members.get(name);
  }

  private static UUID id(Map<String, Object> members, String name) throws IOException {
    String text = string(members, name);
    check(text.matches("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"));
    return UUID.fromString(text);
  }
}
