package dev.taskey.client;

import io.grpc.CallCredentials;
import io.grpc.Metadata;
import io.grpc.Status;
import java.util.concurrent.Executor;

/** Adds an access token to one attempt of a call. */
final class TokenCredentials extends CallCredentials {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  private final Session session;
  private volatile String token;

  TokenCredentials(Session session) {
    this.session = session;
  }

  @Override
  public void applyRequestMetadata(RequestInfo info, Executor executor, MetadataApplier applier) {
    session
        .token()
        .whenComplete(
            (value, failure) -> {
              if (failure != null) {
                applier.fail(Status.fromThrowable(failure).withCause(failure));
                return;
              }
              token = value;
              Metadata headers = new Metadata();
              if (value != null) {
                headers.put(AUTHORIZATION, "Bearer " + value);
              }
              applier.apply(headers);
            });
  }

  /** Replaces the token, which has expired. Returns whether there can be another one. */
  boolean replace() {
    return session.replace(token);
  }
}
