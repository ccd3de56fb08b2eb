#include "taskey/client.h"

#include <fstream>
#include <iterator>
#include <stdexcept>

#include "session.h"

namespace taskey {

namespace {

constexpr int kKeepaliveMs = 20'000;
constexpr int kKeepaliveTimeoutMs = 5'000;
constexpr int kMinReconnectMs = 100;
constexpr int kMaxReconnectMs = 5'000;
constexpr std::chrono::seconds kTokenTimeout{10};

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

}  // namespace

Client::Client(const ClientOptions& options)
    : channel_(Connect(options)),
      session_(std::make_unique<internal::Session>(channel_, options)) {}

Client::~Client() = default;

TaskWatch Client::WatchTasks(std::string sync_token) { return {*this, std::move(sync_token)}; }

std::string Client::AccessToken(const CallOptions& options) {
  auto deadline = internal::Clock::now() + options.timeout.value_or(kTokenTimeout);
  return session_->Token(deadline, options.stop);
}

void Client::Logout() { session_->Logout(); }

}  // namespace taskey
