package dev.taskey.webhook;

import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.Duration;
import java.time.Instant;
import java.util.Base64;
import java.util.function.UnaryOperator;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** Verifies the messages of webhooks, which are signed according to Standard Webhooks. */
public final class WebhookVerifier {
  /** How far the timestamp of a message may differ from the clock of the receiver. */
  public static final Duration TOLERANCE = Duration.ofMinutes(5);

  private static final String ALGORITHM = "HmacSHA256";

  private final SecretKeySpec key;

  /**
   * Creates a verifier.
   *
   * @param secret the secret that {@code CreateWebhook} or {@code RotateWebhookSecret} has returned
   * @throws IllegalArgumentException if the secret is invalid
   */
  public WebhookVerifier(String secret) {
    String encoded = secret.startsWith("whsec_") ? secret.substring("whsec_".length()) : secret;
    key = new SecretKeySpec(Base64.getDecoder().decode(encoded), ALGORITHM);
  }

  /**
   * Checks the signature and the timestamp of a message. A message can arrive more than once:
   * ignore those with a {@code webhook-id} that was processed before.
   *
   * @param header returns the value of the header with a name, or null
   * @param body the body as it was received
   * @throws GeneralSecurityException if the message was not signed with this secret, or not
   *     recently
   */
  public void verify(UnaryOperator<String> header, byte[] body) throws GeneralSecurityException {
    verify(header, body, Instant.now());
  }

  void verify(UnaryOperator<String> header, byte[] body, Instant now)
      throws GeneralSecurityException {
    String id = header.apply("webhook-id");
    String timestamp = header.apply("webhook-timestamp");
    String signatures = header.apply("webhook-signature");
    if (id == null
        || timestamp == null
        || signatures == null
        || !timestamp.matches("[0-9]{1,12}")) {
      throw new GeneralSecurityException("a header is missing or invalid");
    }
    Duration age = Duration.between(Instant.ofEpochSecond(Long.parseLong(timestamp)), now);
    if (age.abs().compareTo(TOLERANCE) > 0) {
      throw new GeneralSecurityException("the timestamp is too old or in the future");
    }
    Mac mac = Mac.getInstance(ALGORITHM);
    mac.init(key);
    mac.update((id + "." + timestamp + ".").getBytes(StandardCharsets.UTF_8));
    String expected = "v1," + Base64.getEncoder().encodeToString(mac.doFinal(body));
    for (String signature : signatures.split(" ")) {
      if (MessageDigest.isEqual(
          signature.getBytes(StandardCharsets.UTF_8), expected.getBytes(StandardCharsets.UTF_8))) {
        return;
      }
    }
    throw new GeneralSecurityException("no signature is valid");
  }
}
