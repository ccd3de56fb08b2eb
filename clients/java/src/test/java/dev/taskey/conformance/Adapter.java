package dev.taskey.conformance;

import com.google.gson.Gson;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.taskey.client.TaskeyError;
import io.grpc.Context;
import io.grpc.Context.CancellableContext;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * The adapter of the conformance suite; its protocol is in {@code clients/conformance/README.md}.
 */
public final class Adapter {
  private final PrintStream output = new PrintStream(System.out, true, StandardCharsets.UTF_8);
  private final Map<String, CancellableContext> running = new ConcurrentHashMap<>();
  private final ClientOperations clients = new ClientOperations();
  private final VerifierOperations verifiers = new VerifierOperations();

  /** Executes the requests on standard input, until it ends. */
  public static void main(String[] arguments) throws Exception {
    new Adapter().run();
    System.exit(0);
  }

  private void run() throws Exception {
    ExecutorService threads = Executors.newCachedThreadPool();
    var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = input.readLine(); line != null; line = input.readLine()) {
      JsonObject request = JsonParser.parseString(line).getAsJsonObject();
      // Registered before the next request is read, which may cancel this one.
      CancellableContext context = Context.ROOT.withCancellation();
      running.put(request.get("id").toString(), context);
      threads.execute(() -> handle(request, context));
    }
  }

  private void handle(JsonObject request, CancellableContext context) {
    JsonObject answer = new JsonObject();
    answer.add("id", request.get("id"));
    try {
      answer.add("ok", execute(request, context));
    } catch (Throwable failure) {
      answer.add(
          "error", error(failure instanceof ExecutionException ? failure.getCause() : failure));
    } finally {
      running.remove(request.get("id").toString());
      context.cancel(null);
    }
    synchronized (output) {
      output.println(new Gson().newBuilder().serializeNulls().create().toJson(answer));
    }
  }

  private JsonObject execute(JsonObject request, CancellableContext context) throws Exception {
    String operation = request.get("op").getAsString();
    if (operation.equals("cancel")) {
      CancellableContext other = running.get(request.get("request").toString());
      if (other != null) {
        other.cancel(null);
      }
      return new JsonObject();
    }
    return switch (operation) {
      // These outlast the request.
      case "open", "watch", "next", "stop", "logout", "close", "token" ->
          clients.execute(operation, request);
      case "call", "list" -> context.call(() -> clients.execute(operation, request));
      default -> verifiers.execute(operation, request);
    };
  }

  private static JsonObject error(Throwable failure) {
    TaskeyError error = TaskeyError.from(failure);
    if (error.code() == io.grpc.Status.Code.UNKNOWN) {
      failure.printStackTrace();
    }
    JsonObject json = new JsonObject();
    json.addProperty("code", error.code().name());
    json.addProperty("reason", error.reason());
    json.addProperty(
        "message",
        error.message().isEmpty() ? String.valueOf(failure.getMessage()) : error.message());
    var violations =
        error.violations().stream()
            .map(
                violation ->
                    Map.of(
                        "field", violation.getField(), "description", violation.getDescription()))
            .toList();
    json.add("violations", new Gson().toJsonTree(violations));
    json.add(
        "retry_after_ms",
        error
            .retryAfter()
            .<com.google.gson.JsonElement>map(
                delay -> new com.google.gson.JsonPrimitive(delay.toMillis()))
            .orElse(JsonNull.INSTANCE));
    json.add("metadata", new Gson().toJsonTree(error.metadata()));
    json.addProperty("request_id", error.requestId());
    return json;
  }
}
