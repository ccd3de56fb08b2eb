package dev.taskey.verifier;

import java.time.Duration;
import java.time.Instant;
import java.util.Collection;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;

/** The revoked sessions, in memory. Thread-safe. */
final class RevocationView {
  /** After this time without a heartbeat, revocations may have been missed. */
  static final Duration HEARTBEAT_LIMIT = Duration.ofSeconds(3);

  /** How long a revoked session is kept: until none of its access tokens can be valid. */
  static final Duration RETENTION = Duration.ofSeconds(Tokens.MAX_LIFETIME + Tokens.LEEWAY + 60);

  private static final int MAX_SESSIONS = 1_000_000;
  private static final Duration PRUNE_INTERVAL = Duration.ofSeconds(60);

  private final long maxStaleness;
  private final Map<UUID, Long> sessions = new HashMap<>();
  private Instant issuedBefore = Instant.MIN;
  private boolean hasSnapshot;
  private Long lastHeartbeat;
  private long prunedAt = System.nanoTime();

  RevocationView(Duration maxStaleness) {
    this.maxStaleness = Math.max(maxStaleness.toNanos(), HEARTBEAT_LIMIT.toNanos());
  }

  synchronized Verifier.State state() {
    if (lastHeartbeat == null) {
      return Verifier.State.COLD;
    }
    long silence = System.nanoTime() - lastHeartbeat;
    if (silence <= HEARTBEAT_LIMIT.toNanos()) {
      return Verifier.State.FRESH;
    }
    return silence <= maxStaleness ? Verifier.State.STALE : Verifier.State.EXPIRED;
  }

  /** Throws unless the session of a token, and those of the services that act, are active. */
  synchronized void check(AccessClaims claims) {
    if (!state().acceptsTokens()) {
      throw Errors.notReady();
    } else if (sessions.containsKey(claims.sessionId()) || isRevoked(claims.actor())) {
      throw Errors.revoked();
    } else if (Instant.ofEpochSecond(claims.issuedAt()).isBefore(issuedBefore)) {
      throw Errors.expired();
    }
  }

  private boolean isRevoked(Optional<AccessClaims.Actor> actor) {
    return actor.isPresent()
        && (actor.get().sessionId().filter(sessions::containsKey).isPresent()
            || isRevoked(actor.get().actor()));
  }

  /**
   * Adds a snapshot. Other sessions remain revoked, because the database may have lost them. Not a
   * heartbeat.
   */
  synchronized void addSnapshot(Collection<UUID> revoked, Instant newIssuedBefore) {
    long now = System.nanoTime();
    revoked.forEach(session -> sessions.put(session, now));
    refuseIssuedBefore(newIssuedBefore);
    hasSnapshot = true;
    collapse(now);
  }

  /** Adds revoked sessions, if any. Also a heartbeat, which counts only after a snapshot. */
  synchronized void add(Collection<UUID> revoked) {
    long now = System.nanoTime();
    revoked.forEach(session -> sessions.put(session, now));
    if (hasSnapshot) {
      lastHeartbeat = now;
    }
    if (now - prunedAt > PRUNE_INTERVAL.toNanos()) {
      sessions.values().removeIf(receivedAt -> now - receivedAt >= RETENTION.toNanos());
      prunedAt = now;
    }
    collapse(now);
  }

  private void refuseIssuedBefore(Instant time) {
    issuedBefore = time.isAfter(issuedBefore) ? time : issuedBefore;
  }

  /**
   * Replaces the older half of too many sessions by a time after which none of their tokens was
   * issued.
   */
  private void collapse(long now) {
    if (sessions.size() <= MAX_SESSIONS) {
      return;
    }
    long[] ages =
        sessions.values().stream().mapToLong(receivedAt -> now - receivedAt).sorted().toArray();
    long lastRemoved = ages[ages.length - 1 - ages.length / 2];
    sessions.values().removeIf(receivedAt -> now - receivedAt >= lastRemoved);
    refuseIssuedBefore(Instant.now().minusNanos(lastRemoved).plusSeconds(Tokens.LEEWAY));
  }
}
