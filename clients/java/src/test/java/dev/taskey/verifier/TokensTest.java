package dev.taskey.verifier;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import dev.taskey.client.TaskeyError;
import io.grpc.StatusRuntimeException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.UUID;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import org.junit.jupiter.api.Test;

/** Forged and malformed tokens. All are refused with the same error. */
class TokensTest {
  private static final long NOW = 1_800_000_000;
  private static final byte[] SECRET =
      "thirty-two bytes to sign a token".getBytes(StandardCharsets.US_ASCII);
  private static final String HEADER = "{\"alg\":\"HS256\",\"kid\":\"shared\",\"typ\":\"at+jwt\"}";
  private static final String SESSION = "01890a5d-ac96-774b-bcce-b302099a8058";

  private static String encode(byte[] bytes) {
    return Base64.getUrlEncoder().withoutPadding().encodeToString(bytes);
  }

  private static String encode(String text) {
    return encode(text.getBytes(StandardCharsets.UTF_8));
  }

  private static String sign(String message) throws Exception {
    Mac mac = Mac.getInstance("HmacSHA256");
    mac.init(new SecretKeySpec(SECRET, "HmacSHA256"));
    return message + "." + encode(mac.doFinal(message.getBytes(StandardCharsets.UTF_8)));
  }

  private static String signed(String header, String claims) throws Exception {
    return sign(encode(header) + "." + encode(claims));
  }

  private static JsonObject claims() {
    JsonObject claims = new JsonObject();
    claims.addProperty("iss", "taskey");
    claims.addProperty("aud", "taskey");
    claims.addProperty("iat", NOW - 10);
    claims.addProperty("exp", NOW + 290);
    claims.add("roles", new JsonArray());
    claims.addProperty("sub", "01890a5d-ac96-774b-bcce-b302099a8057");
    claims.addProperty("sid", SESSION);
    claims.addProperty("jti", "01890a5d-ac96-774b-bcce-b302099a8059");
    return claims;
  }

  private static AccessClaims verify(String token) throws Exception {
    String keys =
        "{\"keys\":[{\"kty\":\"oct\",\"kid\":\"shared\",\"k\":\"" + encode(SECRET) + "\"}]}";
    return TokensForTests.verify(keys, "taskey", "taskey", Instant.ofEpochSecond(NOW), token);
  }

  private static void assertRefused(String token, String reason) {
    var refusal = assertThrows(StatusRuntimeException.class, () -> verify(token), token);
    assertEquals(reason, TaskeyError.from(refusal).reason(), token);
  }

  private static void assertRefused(String token) {
    assertRefused(token, "TOKEN_INVALID");
  }

  @Test
  void valid_token_is_accepted() throws Exception {
    assertEquals(UUID.fromString(SESSION), verify(signed(HEADER, claims().toString())).sessionId());
  }

  @Test
  void absent_or_invalid_claim_is_refused() throws Exception {
    for (String claim : List.of("iss", "aud", "sub", "sid", "jti", "iat", "exp", "roles")) {
      JsonObject without = claims();
      without.remove(claim);
      assertRefused(signed(HEADER, without.toString()));
      for (var value :
          List.of(
              JsonNull.INSTANCE,
              new JsonPrimitive(true),
              new JsonPrimitive(""),
              new JsonPrimitive(0),
              new JsonPrimitive(Long.MIN_VALUE),
              new JsonPrimitive(Long.MAX_VALUE),
              new JsonPrimitive(-1.5),
              new JsonObject(),
              JsonParser.parseString("[null]"),
              JsonParser.parseString("[\"admin\",1]"))) {
        JsonObject with = claims();
        with.add(claim, value);
        assertRefused(signed(HEADER, with.toString()));
      }
    }
  }

  @Test
  void time_that_is_not_an_integer_is_refused() throws Exception {
    for (String claim : List.of("iat", "exp")) {
      String valid = claims().get(claim).getAsString();
      for (String text :
          List.of(
              valid + ".0",
              valid + "e0",
              "\"" + valid + "\"",
              "+" + valid,
              "0" + valid,
              "NaN",
              "1e999",
              valid + "00000000000000000000")) {
        String claims =
            claims().toString().replace("\"" + claim + "\":" + valid, "\"" + claim + "\":" + text);
        assertRefused(signed(HEADER, claims));
      }
    }
  }

  @Test
  void duplicate_member_is_refused_in_either_order() throws Exception {
    String inner = claims().toString().replaceAll("^\\{|\\}$", "");
    for (String name : List.of("iss", "\\u0069ss", "exp", "roles")) {
      for (String value : List.of("\"taskey\"", "null", String.valueOf(NOW + 290))) {
        assertRefused(signed(HEADER, "{" + inner + ",\"" + name + "\":" + value + "}"));
        assertRefused(signed(HEADER, "{\"" + name + "\":" + value + "," + inner + "}"));
      }
    }
    assertRefused(signed(HEADER.replace("}", ",\"alg\":\"HS256\"}"), claims().toString()));
  }

  @Test
  void unexpected_header_is_refused() throws Exception {
    for (String member :
        List.of("\"crit\":[]", "\"jwk\":{}", "\"zip\":\"DEF\"", "\"b64\":false", "\"\":\"\"")) {
      assertRefused(signed(HEADER.replace("}", "," + member + "}"), claims().toString()));
    }
    for (String alg : List.of("none", "HS512", "EdDSA", "hs256", "")) {
      assertRefused(signed(HEADER.replace("HS256", alg), claims().toString()));
    }
    for (String typ : List.of("JWT", "AT+JWT", "application/at+jwt")) {
      assertRefused(signed(HEADER.replace("at+jwt", typ), claims().toString()));
    }
    assertRefused(signed(HEADER.replace("shared", "other"), claims().toString()));
  }

  @Test
  void encoding_is_strict() throws Exception {
    String token = signed(HEADER, claims().toString());
    for (String around : List.of(" ", "\n", "=", ".", "\0", "A")) {
      assertRefused(around + token);
      assertRefused(token + around);
    }
    String message = token.substring(0, token.lastIndexOf('.'));
    assertRefused(message + ".");
    assertRefused(sign(message.replace(".", "=.")));
    assertRefused(sign(message + "="));
    for (String payload :
        List.of(
            "",
            "[]",
            "\ufeff" + claims(),
            claims() + "x",
            claims().toString().repeat(2),
            "[" + claims() + "]",
            " " + claims())) {
      assertRefused(signed(HEADER, payload));
    }
    assertRefused(
        signed(HEADER, claims().toString().replace("}", ",\"x\":\"" + "x".repeat(4096) + "\"}")));
    byte[] notUtf8 =
        claims().toString().replace("}", ",\"x\":\"?\"}").getBytes(StandardCharsets.UTF_8);
    notUtf8[notUtf8.length - 3] = (byte) 0xff;
    assertRefused(sign(encode(HEADER) + "." + encode(notUtf8)));
  }

  @Test
  void expiry_is_reported_only_for_otherwise_valid_tokens() throws Exception {
    JsonObject expired = claims();
    expired.addProperty("iat", NOW - 400);
    expired.addProperty("exp", NOW - 100);
    String token = signed(HEADER, expired.toString());
    assertRefused(token, "TOKEN_EXPIRED");
    assertRefused(token.substring(0, token.length() - 2));
    expired.addProperty("iss", "other");
    assertRefused(signed(HEADER, expired.toString()));
  }

  @Test
  void lifetime_and_future_tokens_are_limited() throws Exception {
    JsonObject claims = claims();
    claims.addProperty("exp", NOW - 10 + 901);
    assertRefused(signed(HEADER, claims.toString()));
    JsonObject future = claims();
    future.addProperty("iat", NOW + 6);
    assertRefused(signed(HEADER, future.toString()));
    JsonObject notBefore = claims();
    notBefore.addProperty("nbf", NOW + 6);
    assertRefused(signed(HEADER, notBefore.toString()));
  }

  /** Returns the claim act of services that act for each other. */
  private static JsonObject actors(int count) {
    JsonObject actor = new JsonObject();
    actor.addProperty("sub", SESSION);
    if (count > 1) {
      actor.add("act", actors(count - 1));
    }
    return actor;
  }

  @Test
  void optional_claims_are_returned() throws Exception {
    JsonObject claims = claims();
    claims.addProperty("scope", "tasks.read x");
    claims.add("amr", JsonParser.parseString("[\"pwd\",\"otp\"]"));
    claims.addProperty("auth_time", NOW - 60);
    JsonObject act = actors(2);
    act.addProperty("sid", SESSION);
    claims.add("act", act);
    AccessClaims found = verify(signed(HEADER, claims.toString()));
    assertEquals(Optional.of(List.of("tasks.read", "x")), found.scopes());
    assertEquals(List.of("pwd", "otp"), found.authenticationMethods());
    assertEquals(OptionalLong.of(NOW - 60), found.authenticatedAt());
    UUID id = UUID.fromString(SESSION);
    var inner = new AccessClaims.Actor(id, Optional.empty(), Optional.empty());
    var actor = new AccessClaims.Actor(id, Optional.of(id), Optional.of(inner));
    assertEquals(Optional.of(actor), found.actor());
    var refusal =
        assertThrows(
            StatusRuntimeException.class, () -> Verifier.requireScope(found, "tasks.write"));
    assertEquals(Map.of("required", "tasks.write"), TaskeyError.from(refusal).metadata());
    Verifier.requireScope(found, "x");
    Verifier.requireScope(verify(signed(HEADER, claims().toString())), "tasks.write");
  }

  @Test
  void users_must_have_proved_a_factor_recently() throws Exception {
    assertTrue(isFresh(NOW, false, false));
    assertTrue(isFresh(NOW - 605, true, false));
    assertTrue(isFresh(null, true, false));
    assertTrue(isFresh(NOW - 605, true, true));
    assertFalse(isFresh(NOW - 606, false, false));
    assertFalse(isFresh(NOW - 606, true, false));
    assertFalse(isFresh(null, false, false));
    assertFalse(isFresh(NOW - 606, true, true));
    assertFalse(isFresh(null, true, true));
  }

  /** Reports whether a user has proved a factor at most 10 minutes before {@code NOW}. */
  private static boolean isFresh(Long authTime, boolean hasScope, boolean hasActor)
      throws Exception {
    JsonObject claims = claims();
    if (authTime != null) {
      claims.addProperty("auth_time", Math.min(authTime, NOW - 10));
    }
    if (hasScope) {
      claims.addProperty("scope", "tasks.read");
    }
    if (hasActor) {
      claims.add("act", actors(1));
    }
    AccessClaims found = verify(signed(HEADER, claims.toString()));
    try {
      found.requireFresh(Duration.ofMinutes(10), Instant.ofEpochSecond(NOW));
      return true;
    } catch (StatusRuntimeException e) {
      TaskeyError error = TaskeyError.from(e);
      assertEquals("STEP_UP_REQUIRED", error.reason());
      assertEquals(Map.of("required", "reauthentication", "max_age", "600"), error.metadata());
      return false;
    }
  }

  @Test
  void optional_claim_of_another_type_is_refused() throws Exception {
    var values =
        Map.of(
            "scope",
            "[null,\"\",\" \",\"a \",\"a  b\",\"x x\",\"a\\\"b\",\"a\\\\b\",\"\u00ef\",1,[\"a\"]]",
            "amr",
            "[null,\"pwd\",[1],[null],{}]",
            "auth_time",
            "[null,\"1\",1.5,[1]," + NOW + "]",
            "act",
            "[null,\"a\",{},{\"sub\":null},{\"sub\":\"a\"},[],"
                + "{\"sub\":\""
                + SESSION
                + "\",\"sid\":\"a\"},"
                + actors(4)
                + "]");
    for (var entry : values.entrySet()) {
      for (var value : JsonParser.parseString(entry.getValue()).getAsJsonArray()) {
        JsonObject with = claims();
        with.add(entry.getKey(), value);
        assertRefused(
            signed(HEADER, new Gson().newBuilder().serializeNulls().create().toJson(with)));
      }
    }
  }
}
