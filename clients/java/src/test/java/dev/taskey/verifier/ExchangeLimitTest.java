package dev.taskey.verifier;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.taskey.client.TaskeyError;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.net.InetAddress;
import java.time.Duration;
import org.junit.jupiter.api.Test;

class ExchangeLimitTest {
  // Near the end of the range, which the clock of the JVM may be.
  private long clock = Long.MAX_VALUE - 1;
  private final ExchangeLimit limit = new ExchangeLimit(() -> clock);

  private static InetAddress address(String text) throws Exception {
    return InetAddress.getByName(text);
  }

  /** Counts exchanges until one is refused, and returns the number of those that were permitted. */
  private int permitted(InetAddress client) {
    for (int count = 0; ; count++) {
      try {
        limit.check(client);
      } catch (StatusRuntimeException e) {
        return count;
      }
    }
  }

  @Test
  void exchanges_of_a_client_are_limited() throws Exception {
    InetAddress client = address("192.0.2.1");
    assertEquals(100, permitted(client));
    var refusal = assertThrows(StatusRuntimeException.class, () -> limit.check(client));
    assertEquals(Status.Code.RESOURCE_EXHAUSTED, refusal.getStatus().getCode());
    TaskeyError error = TaskeyError.from(refusal);
    assertEquals("RATE_LIMITED", error.reason());
    assertEquals(Duration.ofMillis(200), error.retryAfter().orElseThrow());
    clock += Duration.ofSeconds(1).toNanos();
    assertEquals(5, permitted(client));
    limit.check(address("192.0.2.2"));
    limit.check(null);
    clock += Duration.ofMinutes(1).toNanos();
    assertEquals(100, permitted(client));
  }

  @Test
  void ipv6_network_is_one_client() throws Exception {
    String network = ExchangeLimit.countedAs(address("2001:db8::1"));
    assertEquals(network, ExchangeLimit.countedAs(address("2001:db8::ffff:0:1")));
    assertNotEquals(network, ExchangeLimit.countedAs(address("2001:db8:0:1::1")));
    String ipv4 = ExchangeLimit.countedAs(address("192.0.2.1"));
    assertEquals(ipv4, ExchangeLimit.countedAs(address("::ffff:192.0.2.1")));
    assertNotEquals(ipv4, ExchangeLimit.countedAs(address("192.0.2.2")));
    assertEquals("", ExchangeLimit.countedAs(null));
  }

  @Test
  void few_clients_are_counted() throws Exception {
    for (int index = 0; index < 2 * ExchangeLimit.MAX_CLIENTS; index++) {
      limit.check(InetAddress.getByAddress(new byte[] {10, 0, (byte) (index >> 8), (byte) index}));
    }
    assertEquals(ExchangeLimit.MAX_CLIENTS, limit.size());
  }
}
