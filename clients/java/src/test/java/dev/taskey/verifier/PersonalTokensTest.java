package dev.taskey.verifier;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Timestamp;
import dev.taskey.auth.v1.ExchangePersonalAccessTokenResponse;
import dev.taskey.client.TaskeyError;
import io.grpc.StatusRuntimeException;
import java.net.InetAddress;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.zip.CRC32;
import org.junit.jupiter.api.Test;

/** Personal access tokens, and a server that exchanges all of them. */
class PersonalTokensTest {
  private volatile long clock;
  private final AtomicInteger count = new AtomicInteger();
  private final PersonalTokens tokens =
      new PersonalTokens(this::exchange, "taskey", "taskey", () -> clock);
  private final ExchangePersonalAccessTokenResponse.Builder response =
      ExchangePersonalAccessTokenResponse.newBuilder()
          .setSub(UUID.randomUUID().toString())
          .setSid(UUID.randomUUID().toString())
          .setJti(UUID.randomUUID().toString())
          .setScope("tasks.read tasks.write")
          .setExpireTime(after(Duration.ofHours(1)))
          .setTokenExpireTime(after(Duration.ofDays(1)));
  private boolean isValid = true;
  private boolean isDown;

  private static Timestamp after(Duration duration) {
    return Timestamp.newBuilder().setSeconds(Instant.now().plus(duration).getEpochSecond()).build();
  }

  private Optional<ExchangePersonalAccessTokenResponse> exchange(String token, String client) {
    count.incrementAndGet();
    if (isDown) {
      throw Errors.noExchange();
    }
    return isValid ? Optional.of(response.build()) : Optional.empty();
  }

  private static String newToken() {
    String id = UUID.randomUUID().toString().replace("-", "");
    String body = "taskey_pat_" + id + "_" + "a".repeat(43);
    CRC32 checksum = new CRC32();
    checksum.update(body.getBytes(StandardCharsets.US_ASCII));
    return body + "_" + HexFormat.of().toHexDigits((int) checksum.getValue());
  }

  private AccessClaims verify(String token) {
    return tokens.verify(token, null, claims -> true);
  }

  private static void assertRefused(String reason, Runnable call) {
    var refusal = assertThrows(StatusRuntimeException.class, call::run);
    assertEquals(reason, TaskeyError.from(refusal).reason());
  }

  @Test
  void token_is_exchanged_once_in_five_minutes() {
    String token = newToken();
    for (int round = 0; round < 10; round++) {
      AccessClaims found = verify(token);
      assertEquals(Optional.of(List.of("tasks.read", "tasks.write")), found.scopes());
      assertTrue(found.isPersonalAccessToken());
    }
    assertEquals(1, count.get());
    clock += Duration.ofMinutes(5).toNanos();
    verify(token);
    assertEquals(2, count.get());
  }

  @Test
  void token_that_is_not_current_is_exchanged_again() {
    String token = newToken();
    for (int round = 0; round < 3; round++) {
      tokens.verify(token, null, claims -> false);
    }
    assertEquals(3, count.get());
  }

  @Test
  void call_uses_an_exchange_that_has_ended_since_it_found_nothing() {
    String token = newToken();
    verify(token);
    AtomicBoolean isFirst = new AtomicBoolean(true);
    tokens.verify(
        token,
        null,
        claims -> {
          if (!isFirst.getAndSet(false)) {
            return true;
          }
          tokens.verify(token, null, others -> false);
          return false;
        });
    assertEquals(2, count.get());
  }

  @Test
  void concurrent_calls_share_an_exchange() throws Exception {
    CountDownLatch release = new CountDownLatch(1);
    PersonalTokens waiting =
        new PersonalTokens(
            (token, client) -> {
              try {
                release.await();
              } catch (InterruptedException e) {
                throw new AssertionError(e);
              }
              return exchange(token, client);
            },
            "taskey",
            "taskey",
            () -> 0);
    String token = newToken();
    List<Future<AccessClaims>> calls = new ArrayList<>();
    try (var threads = new Threads()) {
      for (int call = 0; call < 20; call++) {
        calls.add(threads.executor.submit(() -> waiting.verify(token, null, claims -> true)));
      }
      release.countDown();
      for (var call : calls) {
        call.get();
      }
    }
    assertEquals(1, count.get());
  }

  /** Threads that end with the test. */
  private record Threads(java.util.concurrent.ExecutorService executor) implements AutoCloseable {
    Threads() {
      this(Executors.newFixedThreadPool(20));
    }

    @Override
    public void close() {
      executor.shutdownNow();
    }
  }

  @Test
  void invalid_token_is_remembered_for_a_minute() {
    String token = newToken();
    isValid = false;
    for (int round = 0; round < 5; round++) {
      assertRefused("TOKEN_INVALID", () -> verify(token));
    }
    assertEquals(1, count.get());
    clock += Duration.ofMinutes(1).toNanos();
    assertRefused("TOKEN_INVALID", () -> verify(token));
    assertEquals(2, count.get());
  }

  @Test
  void token_with_a_changed_character_is_not_exchanged() {
    String token = newToken();
    List<String> others = new ArrayList<>();
    for (int index = 0; index < token.length(); index++) {
      char other = token.charAt(index) == 'c' ? 'b' : 'c';
      others.add(token.substring(0, index) + other + token.substring(index + 1));
    }
    others.addAll(
        List.of("taskey_pat_", token + "0", token.substring(1), token + "\n", " " + token));
    others.forEach(other -> assertRefused("TOKEN_INVALID", () -> verify(other)));
    assertEquals(0, count.get());
  }

  @Test
  void token_is_limited_to_its_networks() throws Exception {
    response.addNetworks("192.0.2.0/24").addNetworks("2001:db8::/32");
    String token = newToken();
    for (String address : List.of("192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1")) {
      tokens.verify(token, InetAddress.getByName(address), claims -> true);
    }
    for (String address : List.of("192.0.3.1", "127.0.0.1", "2001:db9::1")) {
      InetAddress client = InetAddress.getByName(address);
      assertRefused("TOKEN_INVALID", () -> tokens.verify(token, client, claims -> true));
    }
    assertRefused("TOKEN_INVALID", () -> verify(token));
  }

  @Test
  void exchange_that_fails_is_unavailable_and_not_remembered() {
    String token = newToken();
    isDown = true;
    assertRefused("VERIFIER_NOT_READY", () -> verify(token));
    isDown = false;
    response.setSub("not a UUID");
    assertRefused("VERIFIER_NOT_READY", () -> verify(token));
    response.setSub(UUID.randomUUID().toString());
    verify(token);
  }

  @Test
  void number_of_remembered_tokens_is_limited() {
    long interval = Duration.ofMillis(200).toNanos();
    // The limit of exchanges permits one in each interval.
    for (int token = 0; token < PersonalTokens.MAX_ACCEPTED + 10; token++) {
      clock += interval;
      verify(newToken());
    }
    isValid = false;
    for (int token = 0; token < PersonalTokens.MAX_REJECTED + 10; token++) {
      clock += interval;
      assertRefused("TOKEN_INVALID", () -> verify(newToken()));
    }
    assertEquals(List.of(PersonalTokens.MAX_ACCEPTED, PersonalTokens.MAX_REJECTED), tokens.sizes());
  }

  @Test
  void unknown_tokens_of_a_client_cause_few_exchanges() throws Exception {
    String known = newToken();
    verify(known);
    isValid = false;
    for (int token = 0; token < 200; token++) {
      String reason = token < ExchangeLimit.BURST - 1 ? "TOKEN_INVALID" : "RATE_LIMITED";
      assertRefused(reason, () -> verify(newToken()));
    }
    assertEquals(ExchangeLimit.BURST, count.get());
    // Neither its other tokens nor other clients are affected.
    verify(known);
    InetAddress other = InetAddress.getByName("192.0.2.1");
    assertRefused("TOKEN_INVALID", () -> tokens.verify(newToken(), other, claims -> true));
  }
}
