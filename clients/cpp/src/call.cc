#include "call.h"

#include <grpcpp/generic/generic_stub.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <condition_variable>
#include <future>
#include <random>

// How messages are serialized.
#include "taskey/task/v1/task_service.grpc.pb.h"

namespace taskey::internal {

namespace {

using google::protobuf::Message;
using std::chrono::milliseconds;

grpc::Status Attempt(const std::shared_ptr<grpc::Channel>& channel, grpc::ClientContext& context,
                     const Message& request, Message* response, const CallSettings& settings) {
  const auto* method = FindMethod(request.GetDescriptor());
  const std::string path = "/" + method->service()->full_name() + "/" + method->name();
  context.set_deadline(settings.deadline);
  if (!settings.token.empty()) {
    context.AddMetadata("authorization", "Bearer " + settings.token);
  }
  std::promise<grpc::Status> done;
  grpc::TemplatedGenericStub<Message, Message> stub(channel);
  stub.UnaryCall(&context, path, {}, &request, response,
                 [&](grpc::Status status) { done.set_value(std::move(status)); });
  std::stop_callback cancel(settings.stop, [&] { context.TryCancel(); });
  return done.get_future().get();
}

milliseconds Backoff(int attempts) {
  thread_local std::mt19937 random{std::random_device{}()};
  auto grown = kInitialBackoff * std::pow(kBackoffMultiplier, attempts - 1);
  auto jittered = std::min(grown, kMaxBackoff) * std::uniform_real_distribution<>(0.8, 1.2)(random);
  return std::chrono::round<milliseconds>(jittered);
}

}  // namespace

bool SleepFor(milliseconds duration, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait_for(lock, stop, duration, [] { return false; });
  return !stop.stop_requested();
}

const google::protobuf::MethodDescriptor* FindMethod(const google::protobuf::Descriptor* request) {
  for (int i = 0; i < request->file()->service_count(); ++i) {
    const auto* service = request->file()->service(i);
    for (int j = 0; j < service->method_count(); ++j) {
      if (service->method(j)->input_type() == request) {
        return service->method(j);
      }
    }
  }
  throw std::invalid_argument(request->full_name() + " is not a request");
}

void Caller::Call(const Message& request, Message* response, const CallSettings& settings) {
  for (int attempts = 1;; ++attempts) {
    grpc::ClientContext context;
    grpc::Status status = Attempt(channel_, context, request, response, settings);
    if (status.ok()) {
      std::lock_guard lock(mutex_);
      tokens_ = std::min(tokens_ + kTokenRatio, kMaxTokens);
      return;
    }
    Error error(status);
    auto delay = RetryDelay(error, context, attempts);
    if (!delay || !settings.is_repeatable ||
        std::chrono::system_clock::now() + *delay >= settings.deadline) {
      throw error;
    }
    // Otherwise, a channel that has failed to connect would wait longer than the call.
    grpc::experimental::ChannelResetConnectionBackoff(channel_.get());
    if (!SleepFor(*delay, settings.stop)) {
      throw Error(grpc::Status(grpc::StatusCode::CANCELLED, "the call was cancelled"));
    }
  }
}

/// Returns the delay between a failed attempt and the next, if there can be one.
std::optional<milliseconds> Caller::RetryDelay(const Error& error,
                                               const grpc::ClientContext& context, int attempts) {
  std::lock_guard lock(mutex_);
  bool is_unavailable = error.code == grpc::StatusCode::UNAVAILABLE;
  bool is_limited = error.code == grpc::StatusCode::RESOURCE_EXHAUSTED && error.retry_after;
  if (is_unavailable) {
    tokens_ = std::max(tokens_ - 1, 0.0);
  }
  if (!(is_unavailable || is_limited) || tokens_ <= kMaxTokens / 2 || attempts >= kMaxAttempts) {
    return std::nullopt;
  }
  const auto& trailers = context.GetServerTrailingMetadata();
  auto pushback = trailers.find("grpc-retry-pushback-ms");
  if (pushback == trailers.end()) {
    return error.retry_after.value_or(Backoff(attempts));
  }
  // A pushback that is not a number forbids retries.
  std::int32_t delay = -1;
  std::from_chars(pushback->second.begin(), pushback->second.end(), delay);
  return delay < 0 ? std::nullopt : std::optional(milliseconds(delay));
}

}  // namespace taskey::internal
