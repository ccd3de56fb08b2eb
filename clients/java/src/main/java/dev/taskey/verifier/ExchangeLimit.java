package dev.taskey.verifier;

import java.net.InetAddress;
import java.time.Duration;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.LongSupplier;

/**
 * Limits the exchanges of personal access tokens of each client. It is the generic cell rate
 * algorithm: an entry is the time at which a client has its whole burst again. Thread-safe.
 */
final class ExchangeLimit {
  /**
   * The exchanges that a client may cause at once, then one per interval. A valid token needs one
   * every 5 minutes, so that only clients with many invalid tokens reach the limit.
   */
  static final int BURST = 100;

  /** Maximum number of clients whose exchanges are counted. */
  static final int MAX_CLIENTS = 4096;

  private static final long INTERVAL = Duration.ofMillis(200).toNanos();

  private final LongSupplier clock;

  /** The clients that were counted last are at the end. */
  private final Map<String, Long> clients =
      new LinkedHashMap<>(16, 0.75f, true) {
        private static final long serialVersionUID = 1;

        @Override
        protected boolean removeEldestEntry(Map.Entry<String, Long> eldest) {
          return size() > MAX_CLIENTS;
        }
      };

  ExchangeLimit(LongSupplier clock) {
    this.clock = clock;
  }

  /** Counts an exchange. Throws RESOURCE_EXHAUSTED / RATE_LIMITED if there were too many. */
  synchronized void check(InetAddress client) {
    String key = countedAs(client);
    long now = clock.getAsLong();
    // The origin of the clock is arbitrary, so that only differences can be compared.
    long ahead = Math.max(clients.getOrDefault(key, now) - now, 0);
    long wait = ahead - (BURST - 1) * INTERVAL;
    if (wait > 0) {
      throw Errors.tooManyExchanges(Duration.ofNanos(wait));
    }
    clients.put(key, now + ahead + INTERVAL);
  }

  /** Returns the number of clients whose exchanges are counted. */
  synchronized int size() {
    return clients.size();
  }

  /**
   * Returns the address under which a client is counted. An IPv6 client usually has a whole /64
   * network.
   */
  static String countedAs(InetAddress client) {
    if (client == null) {
      return "";
    }
    byte[] address = client.getAddress();
    return HexFormat.of().formatHex(Arrays.copyOf(address, Math.min(address.length, 8)));
  }
}
