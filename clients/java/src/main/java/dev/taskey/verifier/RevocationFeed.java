package dev.taskey.verifier;

import dev.taskey.auth.v1.AcknowledgeRevocationsRequest;
import dev.taskey.auth.v1.AcknowledgeRevocationsResponse;
import dev.taskey.auth.v1.JwkSet;
import dev.taskey.auth.v1.TokenServiceGrpc;
import dev.taskey.auth.v1.WatchRevocationsRequest;
import dev.taskey.auth.v1.WatchRevocationsResponse;
import io.grpc.ClientInterceptor;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.logging.Level;
import java.util.logging.Logger;

/**
 * Keeps the revoked sessions and the public keys up to date. When a stream ends, another one is
 * opened.
 */
final class RevocationFeed {
  /** What is done with the public keys of the feed. */
  interface KeyReceiver {
    void receive(JwkSet keys) throws IOException;
  }

  private static final Logger LOGGER = Logger.getLogger(RevocationFeed.class.getName());
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  private static final Duration CONNECT_TIMEOUT = Duration.ofMillis(1500);
  private static final long MIN_BACKOFF_MS = 50;
  private static final long MAX_BACKOFF_MS = 300;

  /** Less than the lifetime of the token that opened the stream. */
  private static final Duration MAX_STREAM_AGE = Duration.ofSeconds(Tokens.MAX_LIFETIME - 120);

  private final ManagedChannel channel;
  private final RevocationView view;
  private final KeyReceiver keys;
  private final Callable<String> credential;
  private final ScheduledExecutorService scheduler;
  private volatile Stream current;
  private volatile boolean isClosed;
  private volatile long backoff = MIN_BACKOFF_MS;
  private volatile boolean isFailureLogged;

  RevocationFeed(
      ManagedChannel channel,
      RevocationView view,
      KeyReceiver keys,
      Callable<String> credential,
      ScheduledExecutorService scheduler) {
    this.channel = channel;
    this.view = view;
    this.keys = keys;
    this.credential = credential;
    this.scheduler = scheduler;
  }

  /** Opens a stream. */
  void start() {
    try {
      channel.resetConnectBackoff();
      Stream stream = new Stream();
      stub()
          .withWaitForReady()
          .withDeadlineAfter(MAX_STREAM_AGE.toMillis(), TimeUnit.MILLISECONDS)
          .watchRevocations(WatchRevocationsRequest.getDefaultInstance(), stream);
      current = stream;
      stream.watchdog();
    } catch (Exception e) {
      retry(e);
    }
  }

  /** Ends the stream, and opens no other. */
  void close() {
    isClosed = true;
    if (current != null) {
      current.call.cancel("the verifier was closed", null);
    }
  }

  private TokenServiceGrpc.TokenServiceStub stub() throws Exception {
    return TokenServiceGrpc.newStub(channel)
        .withInterceptors(authorization(credential.call()))
        .withMaxInboundMessageSize(16 * 1024 * 1024);
  }

  /** Returns an interceptor that authenticates calls with a token. */
  static ClientInterceptor authorization(String token) {
    Metadata headers = new Metadata();
    headers.put(AUTHORIZATION, "Bearer " + token);
    return MetadataUtils.newAttachHeadersInterceptor(headers);
  }

  private void retry(Throwable cause) {
    if (isClosed) {
      return;
    }
    if (!isFailureLogged) {
      LOGGER.log(Level.WARNING, "the feed of revocations failed: {0}", String.valueOf(cause));
      isFailureLogged = true;
    }
    long delay = Math.round(backoff * ThreadLocalRandom.current().nextDouble(0.5, 1.5));
    backoff = Math.min(backoff * 2, MAX_BACKOFF_MS);
    scheduler.schedule(this::start, delay, TimeUnit.MILLISECONDS);
  }

  private static Set<UUID> ids(Collection<String> texts) {
    Set<UUID> ids = new HashSet<>();
    texts.forEach(text -> ids.add(UUID.fromString(text)));
    return ids;
  }

  /** One stream of the feed. */
  private final class Stream
      implements ClientResponseObserver<WatchRevocationsRequest, WatchRevocationsResponse> {
    private final Set<UUID> snapshot = new HashSet<>();
    private ClientCallStreamObserver<WatchRevocationsRequest> call;
    private boolean hasSnapshot;
    private volatile boolean hasEnded;
    private volatile long receiveBefore = System.nanoTime() + CONNECT_TIMEOUT.toNanos();
    private boolean isAcknowledging;
    private AcknowledgeRevocationsRequest pending;

    @Override
    public void beforeStart(ClientCallStreamObserver<WatchRevocationsRequest> call) {
      this.call = call;
    }

    /** Ends the stream if the peer sends nothing for too long, even if its connection is open. */
    void watchdog() {
      if (!hasEnded && !isClosed) {
        if (System.nanoTime() - receiveBefore > 0) {
          call.cancel("no heartbeat in time", null);
          // The next stream uses another connection.
          channel.enterIdle();
        }
        scheduler.schedule(this::watchdog, 100, TimeUnit.MILLISECONDS);
      }
    }

    @Override
    public void onNext(WatchRevocationsResponse message) {
      receiveBefore = System.nanoTime() + RevocationView.HEARTBEAT_LIMIT.toNanos();
      try {
        apply(message);
      } catch (IOException | IllegalArgumentException e) {
        call.cancel("the feed is not usable", e);
      }
    }

    private void apply(WatchRevocationsResponse message) throws IOException {
      switch (message.getEventCase()) {
        case SNAPSHOT_CHUNK -> {
          check(!hasSnapshot);
          snapshot.addAll(ids(message.getSnapshotChunk().getRevokedSessionIdsList()));
        }
        case SNAPSHOT_END -> {
          check(!hasSnapshot);
          var end = message.getSnapshotEnd();
          if (end.hasKeys()) {
            keys.receive(end.getKeys());
          }
          var before = end.getIssuedBefore();
          view.addSnapshot(
              snapshot,
              end.hasIssuedBefore()
                  ? Instant.ofEpochSecond(before.getSeconds(), before.getNanos())
                  : Instant.MIN);
          snapshot.clear();
          hasSnapshot = true;
          acknowledge(message);
        }
        case UPDATE -> {
          check(hasSnapshot);
          view.add(ids(message.getUpdate().getRevokedSessionIdsList()));
          succeed();
          acknowledge(message);
        }
        case HEARTBEAT -> {
          check(hasSnapshot);
          view.add(List.of());
          succeed();
        }
        // A peer that cannot read its revocations also sends keys, so they are not a heartbeat.
        case KEYS -> keys.receive(message.getKeys());
        // A newer peer may send events that this version does not know.
        case EVENT_NOT_SET -> {}
      }
    }

    private void check(boolean condition) throws IOException {
      if (!condition) {
        throw new IOException("the feed must begin with one snapshot");
      }
    }

    private void succeed() {
      backoff = MIN_BACKOFF_MS;
      isFailureLogged = false;
    }

    /**
     * Acknowledges the latest message that has taken effect. Of those that wait for a call, only
     * the last is sent.
     */
    private synchronized void acknowledge(WatchRevocationsResponse message) {
      pending =
          AcknowledgeRevocationsRequest.newBuilder()
              .setWatchId(message.getWatchId())
              .setSequence(message.getSequence())
              .build();
      if (!isAcknowledging) {
        sendPending();
      }
    }

    private synchronized void sendPending() {
      isAcknowledging = pending != null && !hasEnded;
      if (!isAcknowledging) {
        return;
      }
      var request = pending;
      pending = null;
      try {
        stub()
            .withDeadlineAfter(3, TimeUnit.SECONDS)
            .acknowledgeRevocations(
                request,
                new StreamObserver<>() {
                  @Override
                  public void onNext(AcknowledgeRevocationsResponse response) {}

                  @Override
                  public void onError(Throwable failure) {
                    // The stream shows whether the peer is alive.
                    sendPending();
                  }

                  @Override
                  public void onCompleted() {
                    sendPending();
                  }
                });
      } catch (Exception e) {
        isAcknowledging = false;
      }
    }

    @Override
    public void onError(Throwable failure) {
      hasEnded = true;
      retry(failure);
    }

    @Override
    public void onCompleted() {
      onError(new IOException("the peer ended the stream"));
    }
  }
}
