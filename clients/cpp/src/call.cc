#include <google/protobuf/descriptor.h>
#include <grpcpp/generic/generic_stub.h>

#include <charconv>
#include <future>
#include <random>

#include "service_config.h"
#include "session.h"
#include "taskey/client.h"
#include "taskey/options/v1/options.pb.h"

namespace taskey {

namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::MethodDescriptor;
using internal::Clock;
using std::chrono::milliseconds;

/// Returns the method with this request. Each method of Taskey has a request of its own.
const MethodDescriptor* FindMethod(const Descriptor* request) {
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

std::string RandomUuid() {
  thread_local std::random_device random;
  std::string uuid = "xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx";
  for (char& digit : uuid) {
    digit = digit == 'x' ? "0123456789abcdef"[random() % 16] : digit;
  }
  return uuid;
}

/// Fills in an empty `request_id`, which makes retries of a write safe. Returns whether there is
/// such a field.
bool FillInRequestId(Message* request) {
  const FieldDescriptor* field = request->GetDescriptor()->FindFieldByName("request_id");
  if (field != nullptr && request->GetReflection()->GetString(*request, field).empty()) {
    request->GetReflection()->SetString(request, field, RandomUuid());
  }
  return field != nullptr;
}

/// Returns the delay before the next attempt, if the server permits one.
std::optional<milliseconds> RetryDelay(const Error& error, const grpc::ClientContext& context,
                                       milliseconds backoff) {
  bool is_transient = error.code == grpc::StatusCode::UNAVAILABLE ||
                      (error.code == grpc::StatusCode::RESOURCE_EXHAUSTED && error.retry_after);
  if (!is_transient) {
    return std::nullopt;
  }
  milliseconds delay = error.retry_after.value_or(backoff);
  const auto& trailers = context.GetServerTrailingMetadata();
  if (auto found = trailers.find("grpc-retry-pushback-ms"); found != trailers.end()) {
    std::int32_t pushback = -1;
    const grpc::string_ref text = found->second;
    std::from_chars(text.data(), text.data() + text.size(), pushback);
    if (pushback < 0) {
      return std::nullopt;
    }
    delay = std::max(delay, milliseconds(pushback));
  }
  return delay;
}

grpc::Status Attempt(const std::shared_ptr<grpc::Channel>& channel, const std::string& path,
                     grpc::ClientContext& context, const Message& request, Message* response,
                     const std::stop_token& stop) {
  std::promise<grpc::Status> done;
  grpc::TemplatedGenericStub<Message, Message> stub(channel);
  stub.UnaryCall(&context, path, {}, &request, response,
                 [&](grpc::Status status) { done.set_value(std::move(status)); });
  std::stop_callback cancel(stop, [&] { context.TryCancel(); });
  return done.get_future().get();
}

}  // namespace

void Client::Call(const Message& original, Message* response, const CallOptions& options) {
  const MethodDescriptor* method = FindMethod(original.GetDescriptor());
  const std::string path = "/" + method->service()->full_name() + "/" + method->name();
  auto config = internal::FindMethodConfig(method->service()->full_name(), method->name());
  std::unique_ptr<Message> request(original.New());
  request->CopyFrom(original);
  if (FillInRequestId(request.get())) {
    config.retry_policy = internal::WritePolicy();
  }
  const auto policy = config.retry_policy.value_or(internal::RetryPolicy{});
  const bool is_public = method->options().GetExtension(options::v1::scope) == "public";
  const milliseconds timeout = options.timeout.value_or(
      config.timeout.value_or(std::chrono::duration_cast<milliseconds>(std::chrono::hours(1))));
  const auto deadline = std::chrono::system_clock::now() + timeout;
  const auto steady_deadline = Clock::now() + timeout;
  bool has_replaced_token = false;
  for (int attempts = 1;;) {
    std::string token = is_public ? "" : session_->Token(steady_deadline, options.stop);
    grpc::ClientContext context;
    context.set_deadline(deadline);
    if (!token.empty()) {
      context.AddMetadata("authorization", "Bearer " + token);
    }
    grpc::Status status = Attempt(channel_, path, context, *request, response, options.stop);
    if (status.ok()) {
      return;
    }
    Error error(status);
    if (error.reason == "TOKEN_EXPIRED" && !token.empty()) {
      if (!session_->Replace(token) || has_replaced_token) {
        throw error;
      }
      has_replaced_token = true;
      continue;
    }
    auto delay = RetryDelay(error, context, policy.Backoff(attempts));
    if (!delay || attempts >= policy.max_attempts || Clock::now() + *delay >= steady_deadline) {
      throw error;
    }
    ++attempts;
    // Otherwise, a channel that has failed to connect would wait longer than the call.
    grpc::experimental::ChannelResetConnectionBackoff(channel_.get());
    if (!internal::SleepFor(*delay, options.stop)) {
      throw Error(grpc::Status(grpc::StatusCode::CANCELLED, "the call was cancelled"));
    }
  }
}

PageReader::PageReader(Client& client, const Message& request)
    : client_(&client), request_(request.New()) {
  request_->CopyFrom(request);
}

bool PageReader::Next(Message* response) {
  if (!has_next_) {
    return false;
  }
  response->Clear();
  client_->Call(*request_, response);
  const FieldDescriptor* next = response->GetDescriptor()->FindFieldByName("next_page_token");
  const FieldDescriptor* token = request_->GetDescriptor()->FindFieldByName("page_token");
  std::string value = response->GetReflection()->GetString(*response, next);
  has_next_ = !value.empty();
  request_->GetReflection()->SetString(request_.get(), token, std::move(value));
  return true;
}

}  // namespace taskey
