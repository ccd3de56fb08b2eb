#include "service_config.h"

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <stdexcept>

namespace taskey::internal {

extern const char kServiceConfig[];

namespace {

using google::protobuf::Struct;
using std::chrono::milliseconds;

struct Config {
  std::map<std::string, MethodConfig> methods;
  RetryPolicy writes;
};

/// Parses a duration such as `0.1s`.
milliseconds Duration(const Struct& object, const char* member) {
  return milliseconds(std::llround(std::stod(object.fields().at(member).string_value()) * 1000));
}

MethodConfig Parse(const Struct& object) {
  MethodConfig config;
  if (object.fields().contains("timeout")) {
    config.timeout = Duration(object, "timeout");
  }
  if (object.fields().contains("retryPolicy")) {
    const Struct& policy = object.fields().at("retryPolicy").struct_value();
    config.retry_policy = {static_cast<int>(policy.fields().at("maxAttempts").number_value()),
                           Duration(policy, "initialBackoff"), Duration(policy, "maxBackoff"),
                           policy.fields().at("backoffMultiplier").number_value()};
  }
  return config;
}

Config Load() {
  Struct json;
  if (!google::protobuf::util::JsonStringToMessage(kServiceConfig, &json).ok()) {
    throw std::logic_error("the embedded service config is invalid");
  }
  Config config;
  for (const auto& entry : json.fields().at("methodConfig").list_value().values()) {
    MethodConfig method = Parse(entry.struct_value());
    if (method.retry_policy) {
      config.writes = *method.retry_policy;
    }
    for (const auto& value : entry.struct_value().fields().at("name").list_value().values()) {
      const auto& name = value.struct_value().fields();
      std::string key = name.at("service").string_value() + "/";
      config.methods[name.contains("method") ? key + name.at("method").string_value() : key] =
          method;
    }
  }
  return config;
}

const Config& Loaded() {
  static const Config config = Load();
  return config;
}

}  // namespace

milliseconds RetryPolicy::Backoff(int attempts) const {
  thread_local std::mt19937 random{std::random_device{}()};
  double grown = static_cast<double>(initial_backoff.count()) * std::pow(multiplier, attempts - 1);
  double bound = std::min(grown, static_cast<double>(max_backoff.count()));
  return milliseconds(std::llround(bound * std::uniform_real_distribution<>(0.8, 1.2)(random)));
}

MethodConfig FindMethodConfig(const std::string& service, const std::string& method) {
  const auto& methods = Loaded().methods;
  auto found = methods.find(service + "/" + method);
  if (found == methods.end()) {
    found = methods.find(service + "/");
  }
  return found == methods.end() ? MethodConfig{} : found->second;
}

const RetryPolicy& WritePolicy() { return Loaded().writes; }

}  // namespace taskey::internal
