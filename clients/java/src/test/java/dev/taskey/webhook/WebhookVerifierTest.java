package dev.taskey.webhook;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.time.Instant;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

/** The verification of webhooks agrees with the vectors. */
class WebhookVerifierTest {
  @Test
  void messages_are_verified_like_the_vectors() throws IOException {
    // `clients/webhooks` records further messages.
    String recorded = System.getenv("TASKEY_WEBHOOK_VECTORS");
    String path = recorded == null ? "../conformance/webhooks.json" : recorded;
    String text = Files.readString(Path.of(path));
    JsonObject vectors = JsonParser.parseString(text).getAsJsonObject();
    Instant now = Instant.ofEpochSecond(vectors.get("now").getAsLong());
    assertFalse(vectors.getAsJsonArray("cases").isEmpty());
    for (JsonElement element : vectors.getAsJsonArray("cases")) {
      JsonObject vector = element.getAsJsonObject();
      JsonObject headers = vector.getAsJsonObject("headers");
      UnaryOperator<String> header =
          name -> headers.has(name) ? headers.get(name).getAsString() : null;
      byte[] body = vector.get("body").getAsString().getBytes(StandardCharsets.UTF_8);
      var verifier = new WebhookVerifier(vector.get("secret").getAsString());
      Executable verify = () -> verifier.verify(header, body, now);
      String name = vector.get("name").getAsString();
      if (vector.get("valid").getAsBoolean()) {
        assertDoesNotThrow(verify, name);
      } else {
        assertThrows(GeneralSecurityException.class, verify, name);
      }
    }
  }

  @Test
  void an_invalid_secret_is_refused() {
    assertThrows(IllegalArgumentException.class, () -> new WebhookVerifier("whsec_%"));
  }
}
