#pragma once

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "service_config.h"
#include "taskey/error.h"

namespace taskey::internal {

/// Waits, but not longer than until a stop is requested. Returns false in that case.
bool SleepFor(std::chrono::milliseconds duration, const std::stop_token& stop);

/// Returns the method with this request. Each method of Taskey has a request of its own.
const google::protobuf::MethodDescriptor* FindMethod(const google::protobuf::Descriptor* request);

/// What the attempts of a call have in common.
struct CallSettings {
  std::string token;
  std::chrono::system_clock::time_point deadline;
  std::stop_token stop;
  /// Whether the call can be retried.
  bool is_repeatable = false;
};

/// Makes the calls of a client, and retries them as gRFC A6 describes. gRPC would wait for a
/// pushback that is longer than the deadline.
class Caller {
 public:
  explicit Caller(std::shared_ptr<grpc::Channel> channel) : channel_(std::move(channel)) {}

  /// Calls the method that has requests of this type.
  void Call(const google::protobuf::Message& request, google::protobuf::Message* response,
            const CallSettings& settings);

 private:
  std::optional<std::chrono::milliseconds> RetryDelay(const Error& error,
                                                      const grpc::ClientContext& context,
                                                      int attempts);

  const std::shared_ptr<grpc::Channel> channel_;
  std::mutex mutex_;
  /// Failures use them up, so that there are no retries while most calls fail.
  double tokens_ = kMaxTokens;
};

}  // namespace taskey::internal
