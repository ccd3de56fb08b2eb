package dev.taskey.client;

import com.google.gson.Gson;
import io.grpc.Status;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.ThreadLocalRandom;

/**
 * The retry policy and the throttling of the embedded service config (gRFC A6). gRPC does not apply
 * it, because it would wait for a pushback that is longer than the deadline.
 */
final class RetryPolicy {
  private record Config(List<Method> methodConfig, Throttling retryThrottling) {}

  private record Method(Retries retryPolicy) {}

  private record Retries(
      int maxAttempts, String initialBackoff, String maxBackoff, double backoffMultiplier) {}

  private record Throttling(double maxTokens, double tokenRatio) {}

  private static final Config CONFIG = read();

  /** All methods that can be retried have the same policy. */
  private static final Retries RETRIES = CONFIG.methodConfig.get(0).retryPolicy;

  private double tokens = CONFIG.retryThrottling.maxTokens;

  /** Adds to the tokens, which permit later retries. */
  synchronized void recordSuccess() {
    tokens = Math.min(tokens + CONFIG.retryThrottling.tokenRatio, CONFIG.retryThrottling.maxTokens);
  }

  /** Returns the delay between a failed attempt and the next, if there can be one. */
  synchronized Optional<Duration> delay(TaskeyError error, String pushback, int attempts) {
    boolean isUnavailable = error.code() == Status.Code.UNAVAILABLE;
    boolean isLimited =
        error.code() == Status.Code.RESOURCE_EXHAUSTED && error.retryAfter().isPresent();
    if (isUnavailable) {
      tokens = Math.max(tokens - 1, 0);
    }
    boolean isThrottled = tokens <= CONFIG.retryThrottling.maxTokens / 2;
    // A pushback that is not a number forbids retries.
    boolean isForbidden = pushback != null && !pushback.matches("[0-9]{1,9}");
    if (attempts >= RETRIES.maxAttempts
        || isThrottled
        || isForbidden
        || !(isUnavailable || isLimited)) {
      return Optional.empty();
    } else if (pushback != null) {
      return Optional.of(Duration.ofMillis(Long.parseLong(pushback)));
    }
    return error.retryAfter().or(() -> Optional.of(backoff(attempts)));
  }

  private static Duration backoff(int attempts) {
    double growth = Math.pow(RETRIES.backoffMultiplier, attempts - 1);
    double grown = duration(RETRIES.initialBackoff).toMillis() * growth;
    double bound = Math.min(grown, duration(RETRIES.maxBackoff).toMillis());
    return Duration.ofMillis(Math.round(bound * ThreadLocalRandom.current().nextDouble(0.8, 1.2)));
  }

  private static Duration duration(String seconds) {
    return Duration.parse("PT" + seconds);
  }

  private static Config read() {
    try (var file = RetryPolicy.class.getResourceAsStream("service_config.json");
        var reader = new InputStreamReader(file, StandardCharsets.UTF_8)) {
      return new Gson().fromJson(reader, Config.class);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
