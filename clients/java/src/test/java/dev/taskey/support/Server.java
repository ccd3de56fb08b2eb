package dev.taskey.support;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/**
 * A running Taskey. The program is that in the environment variable {@code TASKEY_BIN}, or the
 * debug build of this repository.
 */
public final class Server implements AutoCloseable {
  private final Path data;
  private final List<String> flags;
  private final Map<String, String> addresses = new HashMap<>();
  private Process process;

  /** Starts a server with an empty database. */
  public Server(String... flags) throws IOException {
    this.data = Files.createTempDirectory("taskey-java-");
    this.flags = List.of(flags);
    start();
  }

  /** Starts the server again, with the same data, at other addresses. */
  public void start() throws IOException {
    String program = System.getenv().getOrDefault("TASKEY_BIN", "../../target/debug/taskey");
    List<String> command =
        new ArrayList<>(
            List.of(
                program,
                "--data-dir",
                data.toString(),
                "--auth-listen",
                "127.0.0.1:0",
                "--task-listen",
                "127.0.0.1:0",
                "--gateway-listen",
                "127.0.0.1:0",
                "--ops-listen",
                "127.0.0.1:0",
                "--rate-limits",
                "off",
                "--drain-timeout",
                "1s",
                "--log",
                "warn"));
    command.addAll(flags);
    process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
    var output = new BufferedReader(new InputStreamReader(process.getInputStream()));
    addresses.clear();
    while (addresses.size() < 4) {
      String line = output.readLine();
      if (line == null) {
        throw new IOException("the server has ended: " + program);
      }
      String[] words = line.split(" ");
      if (words.length == 3 && words[0].equals("listening")) {
        addresses.put(words[1], words[2]);
      }
    }
    Thread reader = new Thread(() -> output.lines().forEach(line -> {}));
    reader.setDaemon(true);
    reader.start();
  }

  /** Returns the address of a listener: {@code gateway}, {@code auth} or {@code task}. */
  public String address(String listener) {
    return addresses.get(listener);
  }

  /** Returns the port of a listener. */
  public int port(String listener) {
    String address = addresses.get(listener);
    return Integer.parseInt(address.substring(address.lastIndexOf(':') + 1));
  }

  /** Returns how many calls of a method auth-service has received. */
  public long startedCalls(String method) throws Exception {
    var request =
        HttpRequest.newBuilder(URI.create("http://" + address("ops") + "/metrics")).build();
    String metrics =
        HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body();
    return metrics
        .lines()
        .filter(
            line ->
                line.startsWith("grpc_server_started_total{")
                    && line.contains("\"" + method + "\""))
        .mapToLong(line -> Long.parseLong(line.substring(line.lastIndexOf(' ') + 1)))
        .max()
        .orElse(0);
  }

  /** Returns the file with the keys of access tokens. */
  public Path keyFile() {
    return data.resolve("keys.json");
  }

  /** Stops the server, like a service manager does. */
  public void stop() {
    process.destroy();
    try {
      if (!process.waitFor(10, TimeUnit.SECONDS)) {
        process.destroyForcibly().waitFor();
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  @Override
  public void close() {
    stop();
    try (var files = Files.walk(data)) {
      files.sorted((a, b) -> b.compareTo(a)).forEach(file -> file.toFile().delete());
    } catch (IOException e) {
      throw new java.io.UncheckedIOException(e);
    }
  }
}
