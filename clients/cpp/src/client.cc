#include "taskey/client.h"

#include <fstream>
#include <iterator>
#include <random>
#include <stdexcept>

#include "call.h"
#include "session.h"
#include "taskey/options/v1/options.pb.h"

namespace taskey {

namespace {

using google::protobuf::Message;
using google::protobuf::MethodOptions;

constexpr int kKeepaliveMs = 20'000;
constexpr int kKeepaliveTimeoutMs = 5'000;
constexpr int kMinReconnectMs = 100;
constexpr int kMaxReconnectMs = 5'000;
constexpr std::chrono::seconds kTimeout{10};

std::string Read(const std::filesystem::path& file) {
  if (file.empty()) {
    return {};
  }
  std::ifstream input(file, std::ios::binary);
  if (!input) {
    throw std::runtime_error("cannot read " + file.string());
  }
  return {std::istreambuf_iterator<char>(input), {}};
}

std::shared_ptr<grpc::Channel> Connect(const ClientOptions& options) {
  std::shared_ptr<grpc::ChannelCredentials> credentials =
      options.plaintext ? grpc::InsecureChannelCredentials()
                        : grpc::SslCredentials({Read(options.ca_file), Read(options.key_file),
                                                Read(options.cert_file)});
  grpc::ChannelArguments arguments;
  arguments.SetLoadBalancingPolicyName("round_robin");
  arguments.SetUserAgentPrefix("taskey-cpp");
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kMinReconnectMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kMaxReconnectMs);
  // Clients in the same process do not share connections.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(options.address, credentials, arguments);
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
  const auto* field = request->GetDescriptor()->FindFieldByName("request_id");
  if (field != nullptr && request->GetReflection()->GetString(*request, field).empty()) {
    request->GetReflection()->SetString(request, field, RandomUuid());
  }
  return field != nullptr;
}

}  // namespace

Client::Client(const ClientOptions& options)
    : channel_(Connect(options)),
      caller_(std::make_unique<internal::Caller>(channel_)),
      session_(std::make_unique<internal::Session>(*caller_, options)) {}

Client::~Client() = default;

void Client::Call(const Message& original, Message* response, const CallOptions& options) {
  const auto& method = internal::FindMethod(original.GetDescriptor())->options();
  const bool is_public = method.GetExtension(options::v1::scope) == "public";
  std::unique_ptr<Message> request(original.New());
  request->CopyFrom(original);
  internal::CallSettings settings;
  settings.is_repeatable = FillInRequestId(request.get()) ||
                           method.idempotency_level() == MethodOptions::NO_SIDE_EFFECTS;
  settings.deadline = std::chrono::system_clock::now() + options.timeout.value_or(kTimeout);
  settings.stop = options.stop;
  for (bool is_repeated = false;; is_repeated = true) {
    settings.token = is_public ? "" : session_->Token(settings.deadline, options.stop);
    try {
      return caller_->Call(*request, response, settings);
    } catch (const Error& error) {
      if (is_repeated || error.reason != "TOKEN_EXPIRED" || !session_->Replace(settings.token)) {
        throw;
      }
    }
  }
}

TaskWatch Client::WatchTasks(std::string sync_token) { return {*this, std::move(sync_token)}; }

std::string Client::AccessToken(const CallOptions& options) {
  auto deadline = std::chrono::system_clock::now() + options.timeout.value_or(kTimeout);
  return session_->Token(deadline, options.stop);
}

void Client::Logout() { session_->Logout(); }

}  // namespace taskey
