package dev.taskey.support;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/**
 * A TCP proxy that simulates network failures. With an {@link javax.net.ssl.SSLServerSocket}, it
 * ends TLS.
 */
public final class Proxy implements AutoCloseable {
  private final ServerSocket listener;
  private final Set<Connection> connections = ConcurrentHashMap.newKeySet();
  private volatile int target;
  private volatile boolean losesNextResponse;

  /** Forwards connections to a local port. */
  public Proxy(int target) throws IOException {
    this(new ServerSocket(0, 50, java.net.InetAddress.getLoopbackAddress()), target);
  }

  /** Forwards the connections of a listener to a local port. */
  public Proxy(ServerSocket listener, int target) {
    this.listener = listener;
    this.target = target;
    run(this::accept);
  }

  /** Returns the address of the proxy. */
  public String address() {
    return "localhost:" + listener.getLocalPort();
  }

  /** Forwards new connections to another port. */
  public void setTarget(int port) {
    target = port;
  }

  /** Closes the connection after the next request has been forwarded, and drops the response. */
  public void loseNextResponse() {
    losesNextResponse = true;
  }

  /** Closes all connections. */
  public void cut() {
    connections.forEach(Connection::close);
  }

  /** Stops forwarding on all current connections, without closing them. */
  public void freeze() {
    connections.forEach(connection -> connection.isFrozen = true);
  }

  @Override
  public void close() throws IOException {
    listener.close();
    cut();
  }

  private void accept() throws IOException {
    while (true) {
      Socket client = listener.accept();
      run(
          () -> {
            Socket server = connect(client);
            Connection connection = new Connection(client, server);
            connections.add(connection);
            run(() -> connection.forward(client, server, true));
            run(() -> connection.forward(server, client, false));
          });
    }
  }

  private Socket connect(Socket client) throws IOException {
    try {
      return new Socket("127.0.0.1", target);
    } catch (IOException e) {
      client.close();
      throw e;
    }
  }

  private interface Task {
    void run() throws IOException;
  }

  private static void run(Task task) {
    Thread thread =
        new Thread(
            () -> {
              try {
                task.run();
              } catch (IOException closed) {
                // One of the sides has closed the connection.
              }
            });
    thread.setDaemon(true);
    thread.start();
  }

  private final class Connection {
    private final Socket client;
    private final Socket server;
    private volatile boolean isFrozen;

    Connection(Socket client, Socket server) {
      this.client = client;
      this.server = server;
    }

    void forward(Socket from, Socket to, boolean isRequest) throws IOException {
      try {
        InputStream input = from.getInputStream();
        OutputStream output = to.getOutputStream();
        byte[] buffer = new byte[64 * 1024];
        for (int size = input.read(buffer); size >= 0; size = input.read(buffer)) {
          if (isRequest && losesNextResponse) {
            losesNextResponse = false;
            isFrozen = true;
            output.write(buffer, 0, size);
            output.flush();
            pause();
            return;
          }
          if (!isFrozen) {
            output.write(buffer, 0, size);
            output.flush();
          }
        }
      } finally {
        close();
      }
    }

    private void pause() {
      try {
        // The server executes the request.
        Thread.sleep(500);
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
    }

    void close() {
      connections.remove(this);
      try {
        client.close();
        server.close();
      } catch (IOException e) {
        throw new java.io.UncheckedIOException(e);
      }
    }
  }
}
