#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace taskey::internal {

/// How calls are retried, in the terms of gRFC A6.
struct RetryPolicy {
  int max_attempts = 1;
  std::chrono::milliseconds initial_backoff{0};
  std::chrono::milliseconds max_backoff{0};
  double multiplier = 1;

  /// Returns a random delay before the attempt that follows `attempts` others.
  std::chrono::milliseconds Backoff(int attempts) const;
};

/// Settings of a method.
struct MethodConfig {
  std::optional<std::chrono::milliseconds> timeout;
  /// Not set if only calls with a request id can be retried.
  std::optional<RetryPolicy> retry_policy;
};

/// Returns the settings of a method in the embedded service config.
MethodConfig FindMethodConfig(const std::string& service, const std::string& method);

/// Returns the policy for writes with a request id: that of reads.
const RetryPolicy& WritePolicy();

}  // namespace taskey::internal
