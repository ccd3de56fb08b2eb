package dev.taskey.verifier;

import java.util.List;
import java.util.UUID;

/**
 * The claims of a verified access token.
 *
 * @param issuer the claim {@code iss}
 * @param audience the claim {@code aud}
 * @param userId the claim {@code sub}
 * @param sessionId the claim {@code sid}
 * @param tokenId the claim {@code jti}
 * @param issuedAt the claim {@code iat}, in seconds since the Unix epoch
 * @param expiresAt the claim {@code exp}, in seconds since the Unix epoch
 * @param roles the roles of the user
 */
public record AccessClaims(
    String issuer,
    String audience,
    UUID userId,
    UUID sessionId,
    UUID tokenId,
    long issuedAt,
    long expiresAt,
    List<String> roles) {}
