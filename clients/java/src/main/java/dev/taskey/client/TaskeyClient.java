package dev.taskey.client;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.TlsChannelCredentials;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.stream.Stream;

/** A connection to Taskey. Create stubs of all services with {@link #channel}. Thread-safe. */
public final class TaskeyClient implements AutoCloseable {
  private final ManagedChannel transport;
  private final Channel channel;
  private final Session session;

  private TaskeyClient(Builder builder) throws IOException {
    var credentials = builder.plaintext ? InsecureChannelCredentials.create() : builder.tls.build();
    transport =
        Grpc.newChannelBuilder(builder.address, credentials)
            .defaultLoadBalancingPolicy("round_robin")
            .disableServiceConfigLookUp()
            .keepAliveTime(20, TimeUnit.SECONDS)
            .keepAliveTimeout(5, TimeUnit.SECONDS)
            .userAgent("taskey-java")
            .build();
    // Its threads end when they are idle. The JDK's common pool could be full of waiting callers.
    var executor =
        Executors.newCachedThreadPool(
            task -> {
              Thread thread = new Thread(task, "taskey-client");
              thread.setDaemon(true);
              return thread;
            });
    var interceptor = new CallInterceptor(transport, builder.credentials, executor);
    channel = ClientInterceptors.intercept(transport, interceptor);
    session = interceptor.session();
  }

  /** Creates a client of the gateway at an address, such as {@code tasks.example.org:443}. */
  public static Builder builder(String address) {
    return new Builder(address);
  }

  /**
   * Returns the channel for stubs. Calls that need an access token get it, and are retried if that
   * is safe.
   */
  public Channel channel() {
    return channel;
  }

  /** Returns a current access token; it logs in or refreshes the session if necessary. */
  public CompletableFuture<String> accessToken() {
    return session.token().copy();
  }

  /** Revokes the session and forgets its tokens. */
  public void logout() {
    session.logout();
  }

  /**
   * Returns the items of all pages. Requests the first page now, and each other when the stream
   * reaches it.
   *
   * <pre>{@code
   * client.list(request, tasks::listTasks, ListTasksResponse::getTasksList).forEach(...)
   * }</pre>
   */
  @SuppressWarnings("unchecked")
  public <Q extends Message, R extends Message, T> Stream<T> list(
      Q request, Function<Q, R> call, Function<R, List<T>> items) {
    FieldDescriptor token = request.getDescriptorForType().findFieldByName("page_token");
    return Stream.iterate(
            call.apply(request),
            page -> page != null,
            page -> {
              String next =
                  (String)
                      page.getField(page.getDescriptorForType().findFieldByName("next_page_token"));
              return next.isEmpty()
                  ? null
                  : call.apply((Q) request.toBuilder().setField(token, next).build());
            })
        .flatMap(page -> items.apply(page).stream());
  }

  /** Watches the user's tasks from a sync token, or from the beginning if it is empty. */
  public TaskWatch watchTasks(String syncToken) {
    return new TaskWatch(transport, session, syncToken);
  }

  /**
   * Cancels all calls and closes the connections. Does not end the session; see {@link #logout}.
   */
  @Override
  public void close() {
    transport.shutdownNow();
  }

  /**
   * Settings of a client. By default, it uses TLS and trusts the certificate authorities of the
   * JDK.
   */
  public static final class Builder {
    private final String address;
    private final TlsChannelCredentials.Builder tls = TlsChannelCredentials.newBuilder();
    private boolean plaintext;
    private Session.Credentials credentials = new Session.Credentials(null, null, null);

    private Builder(String address) {
      this.address = address;
    }

    /** Connects without TLS. */
    public Builder plaintext() {
      plaintext = true;
      return this;
    }

    /** Trusts the certificate authorities in a PEM file instead of those of the JDK. */
    public Builder trustCertificates(Path file) throws IOException {
      tls.trustManager(file.toFile());
      return this;
    }

    /**
     * Authenticates the connection with a certificate chain and a private key (PKCS #8), both in
     * PEM files.
     */
    public Builder clientCertificate(Path chain, Path key) throws IOException {
      tls.keyManager(chain.toFile(), key.toFile());
      return this;
    }

    /** Logs in with a password at the first call, and keeps the session alive. */
    public Builder password(String email, String password) {
      credentials = new Session.Credentials(email, password, null);
      return this;
    }

    /** Sends an access token or a personal access token as it is, and never refreshes it. */
    public Builder accessToken(String token) {
      credentials = new Session.Credentials(null, null, token);
      return this;
    }

    /** Returns the client. It connects at the first call. */
    public TaskeyClient build() throws IOException {
      return new TaskeyClient(this);
    }
  }
}
