package dev.taskey.client;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ThreadLocalRandom;

/**
 * The embedded service config: how long calls may take, which are retried, and after which delay.
 */
final class ServiceConfig {
  /** How calls are retried, in the terms of gRFC A6. */
  record RetryPolicy(
      int maxAttempts, Duration initialBackoff, Duration maxBackoff, double multiplier) {
    /** Returns a random delay before the attempt that follows {@code attempts} others. */
    Duration backoff(int attempts) {
      double grown = initialBackoff.toMillis() * Math.pow(multiplier, attempts - 1);
      double bound = Math.min(grown, maxBackoff.toMillis());
      return Duration.ofMillis(
          Math.round(bound * ThreadLocalRandom.current().nextDouble(0.8, 1.2)));
    }
  }

  /**
   * Settings of a method. {@code retryPolicy} is null if only calls with a request id can be
   * retried.
   */
  record Method(Duration timeout, RetryPolicy retryPolicy) {}

  static final ServiceConfig INSTANCE = new ServiceConfig();

  private final Map<String, Method> methods = new HashMap<>();
  private RetryPolicy writes;

  private ServiceConfig() {
    for (JsonElement entry : read().getAsJsonArray("methodConfig")) {
      JsonObject config = entry.getAsJsonObject();
      Duration timeout = config.has("timeout") ? duration(config, "timeout") : null;
      RetryPolicy policy =
          config.has("retryPolicy") ? policy(config.getAsJsonObject("retryPolicy")) : null;
      writes = writes == null ? policy : writes;
      for (JsonElement name : config.getAsJsonArray("name")) {
        JsonElement method = name.getAsJsonObject().get("method");
        String service = name.getAsJsonObject().get("service").getAsString();
        methods.put(
            service + "/" + (method == null ? "" : method.getAsString()),
            new Method(timeout, policy));
      }
    }
  }

  /** Returns the settings of a method, such as {@code taskey.task.v1.TaskService/GetTask}. */
  Method method(String fullName) {
    Method ofService = methods.get(fullName.substring(0, fullName.indexOf('/') + 1));
    return methods.getOrDefault(fullName, ofService == null ? new Method(null, null) : ofService);
  }

  /** Returns the policy for writes with a request id: that of reads. */
  RetryPolicy writes() {
    return writes;
  }

  /**
   * Returns the settings that gRPC applies itself. Retries are not among them: they depend on the
   * request.
   */
  Map<String, ?> forChannel() {
    return Map.of("loadBalancingConfig", List.of(Map.of("round_robin", Map.of())));
  }

  private static JsonObject read() {
    try (var file = ServiceConfig.class.getResourceAsStream("service_config.json");
        var reader = new InputStreamReader(file, StandardCharsets.UTF_8)) {
      return JsonParser.parseReader(reader).getAsJsonObject();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static RetryPolicy policy(JsonObject policy) {
    return new RetryPolicy(
        policy.get("maxAttempts").getAsInt(),
        duration(policy, "initialBackoff"),
        duration(policy, "maxBackoff"),
        policy.get("backoffMultiplier").getAsDouble());
  }

  private static Duration duration(JsonObject object, String member) {
    return Duration.parse("PT" + object.get(member).getAsString());
  }
}
