package dev.taskey.verifier;

import dev.taskey.auth.v1.ExchangePersonalAccessTokenResponse;
import io.grpc.StatusRuntimeException;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.function.LongSupplier;
import java.util.function.Predicate;
import java.util.zip.CRC32;

/**
 * Verifies personal access tokens: exchanges them for their claims, and remembers these. Tokens are
 * remembered by their hashes, so that none is kept in memory. Thread-safe.
 */
final class PersonalTokens {
  /** The prefix of personal access tokens, which distinguishes them from access tokens. */
  static final String PREFIX = "taskey_pat_";

  /** How long an exchange may take. */
  static final Duration EXCHANGE_TIMEOUT = Duration.ofSeconds(2);

  /** Maximum number of remembered tokens. Invalid ones do not evict valid ones. */
  static final int MAX_ACCEPTED = 16_384;

  static final int MAX_REJECTED = 4096;

  private static final int MAX_EXCHANGES = 32;
  private static final long MAX_AGE = Duration.ofMinutes(5).toNanos();

  /** How long an invalid token is remembered. No token with the same text can become valid. */
  private static final long REJECTED_MAX_AGE = Duration.ofMinutes(1).toNanos();

  private static final String FORMAT = "taskey_pat_[0-9a-f]{32}_[A-Za-z0-9_-]{43}_[0-9a-f]{8}";

  /** Exchanges a token that a client has sent. */
  interface Exchange {
    /**
     * Returns the claims, or nothing if the token is not valid.
     *
     * @throws StatusRuntimeException if the token cannot be checked
     */
    Optional<ExchangePersonalAccessTokenResponse> exchange(String token, String clientAddress);
  }

  /** The result of an exchange, and until when it is remembered. */
  private record Exchanged(AccessClaims claims, List<Network> networks, long until) {
    boolean permits(InetAddress client) {
      return networks.isEmpty()
          || client != null && networks.stream().anyMatch(network -> network.contains(client));
    }
  }

  private final Exchange server;
  private final String issuer;
  private final String audience;
  private final LongSupplier clock;
  private final ExchangeLimit limit;
  private final Semaphore permits = new Semaphore(MAX_EXCHANGES);
  private final Map<String, Exchanged> accepted = limited(MAX_ACCEPTED);
  private final Map<String, Long> rejected = limited(MAX_REJECTED);
  private final Map<String, CompletableFuture<Exchanged>> exchanging = new ConcurrentHashMap<>();

  PersonalTokens(Exchange server, String issuer, String audience, LongSupplier clock) {
    this.server = server;
    this.issuer = issuer;
    this.audience = audience;
    this.clock = clock;
    this.limit = new ExchangeLimit(clock);
  }

  /**
   * Returns the claims of a token that a client at an address, or at an unknown one (null), has
   * sent. Claims that are not current are not used.
   */
  AccessClaims verify(String token, InetAddress client, Predicate<AccessClaims> isCurrent) {
    if (!hasValidFormat(token)) {
      throw Errors.invalid();
    }
    String hash = hash(token);
    Exchanged found = remembered(hash, isCurrent);
    if (found == null) {
      found = exchangeOnce(hash, token, client, isCurrent);
    }
    if (!found.permits(client)) {
      throw Errors.invalid();
    }
    return found.claims;
  }

  /** Returns the numbers of remembered tokens. */
  synchronized List<Integer> sizes() {
    return List.of(accepted.size(), rejected.size());
  }

  /** Returns what is remembered of a token, or null if it has to be exchanged. */
  private Exchanged remembered(String hash, Predicate<AccessClaims> isCurrent) {
    Exchanged found;
    Long until;
    synchronized (this) {
      found = accepted.get(hash);
      until = rejected.get(hash);
    }
    long now = clock.getAsLong();
    if (found != null && now - found.until < 0 && isCurrent.test(found.claims)) {
      return found;
    }
    if (until != null && now - until < 0) {
      throw Errors.invalid();
    }
    return null;
  }

  /** Exchanges a token. Calls with the same token wait for one exchange. */
  private Exchanged exchangeOnce(
      String hash, String token, InetAddress client, Predicate<AccessClaims> isCurrent) {
    CompletableFuture<Exchanged> own = new CompletableFuture<>();
    CompletableFuture<Exchanged> first = exchanging.putIfAbsent(hash, own);
    if (first == null) {
      try {
        // Another exchange may have ended since the caller found nothing.
        Exchanged found = remembered(hash, isCurrent);
        own.complete(found == null ? exchange(hash, token, client) : found);
      } catch (StatusRuntimeException e) {
        own.completeExceptionally(e);
      } catch (RuntimeException | UnknownHostException e) {
        own.completeExceptionally(Errors.noExchange());
      } finally {
        exchanging.remove(hash);
      }
    }
    try {
      return (first == null ? own : first).join();
    } catch (CompletionException e) {
      throw (StatusRuntimeException) e.getCause();
    }
  }

  private Exchanged exchange(String hash, String token, InetAddress client)
      throws UnknownHostException {
    limit.check(client);
    Optional<ExchangePersonalAccessTokenResponse> response;
    try {
      if (!permits.tryAcquire(EXCHANGE_TIMEOUT.toMillis(), TimeUnit.MILLISECONDS)) {
        throw Errors.noExchange();
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw Errors.noExchange();
    }
    try {
      response = server.exchange(token, client == null ? "" : client.getHostAddress());
    } finally {
      permits.release();
    }
    synchronized (this) {
      if (response.isEmpty()) {
        accepted.remove(hash);
        rejected.put(hash, clock.getAsLong() + REJECTED_MAX_AGE);
        throw Errors.invalid();
      }
      Exchanged exchanged = parse(response.get());
      accepted.put(hash, exchanged);
      return exchanged;
    }
  }

  /**
   * Parses a response. Its times are those of another clock, so the claims are remembered for a
   * duration.
   */
  private Exchanged parse(ExchangePersonalAccessTokenResponse response)
      throws UnknownHostException {
    Instant now = Instant.now();
    AccessClaims claims =
        new AccessClaims(
            issuer,
            audience,
            UUID.fromString(response.getSub()),
            UUID.fromString(response.getSid()),
            UUID.fromString(response.getJti()),
            now.getEpochSecond(),
            response.getTokenExpireTime().getSeconds(),
            List.copyOf(response.getRolesList()),
            Optional.of(List.of(response.getScope().split(" "))),
            List.of(),
            OptionalLong.empty(),
            Optional.empty(),
            true);
    List<Network> networks = new ArrayList<>();
    for (String network : response.getNetworksList()) {
      networks.add(Network.parse(network));
    }
    Instant end = Instant.ofEpochSecond(response.getExpireTime().getSeconds());
    long age = Math.min(Duration.between(now, end).toNanos(), MAX_AGE);
    return new Exchanged(claims, networks, clock.getAsLong() + age);
  }

  /** Returns whether a token has the format and the checksum of a personal access token. */
  private static boolean hasValidFormat(String token) {
    if (!token.matches(FORMAT)) {
      return false;
    }
    int end = token.length() - 9;
    CRC32 checksum = new CRC32();
    checksum.update(token.substring(0, end).getBytes(StandardCharsets.US_ASCII));
    return token.endsWith(HexFormat.of().toHexDigits((int) checksum.getValue()));
  }

  private static String hash(String token) {
    try {
      byte[] bytes = token.getBytes(StandardCharsets.US_ASCII);
      return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
    } catch (NoSuchAlgorithmException e) {
      throw new AssertionError("every JDK has SHA-256", e);
    }
  }

  /** Returns a map whose oldest entry is removed if there are too many. */
  private static <T> Map<String, T> limited(int maximum) {
    return new LinkedHashMap<>() {
      private static final long serialVersionUID = 1;

      @Override
      protected boolean removeEldestEntry(Map.Entry<String, T> eldest) {
        return size() > maximum;
      }
    };
  }
}
