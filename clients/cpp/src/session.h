#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include "taskey/auth/v1/auth_service.grpc.pb.h"
#include "taskey/client.h"

namespace taskey::internal {

using Clock = std::chrono::steady_clock;

/// Waits, but not longer than until a stop is requested. Returns false in that case.
bool SleepFor(std::chrono::milliseconds duration, const std::stop_token& stop);

/// Provides access tokens: logs in, and refreshes the session, one call at a time.
class Session {
 public:
  Session(std::shared_ptr<grpc::Channel> channel, const ClientOptions& options);

  /// Returns a token, or an empty string if the client has no credentials. Starts a refresh ahead
  /// of the expiry.
  std::string Token(Clock::time_point deadline, const std::stop_token& stop);

  /// Replaces a token that the server refused as expired. Returns whether there can be another one.
  bool Replace(const std::string& refused);

  /// Revokes the session and forgets its tokens. The next call logs in again.
  void Logout();

 private:
  struct Tokens {
    std::string access;
    std::string refresh;
    Clock::time_point refresh_at;
    Clock::time_point access_end;
    Clock::time_point session_end;
  };
  using Attempt = std::function<grpc::Status(grpc::ClientContext&)>;

  static Tokens ToTokens(Clock::time_point started, const auth::v1::TokenPair& pair);
  void Run(const std::stop_token& stop);
  Tokens Login();
  Tokens Refresh(const Tokens& old);
  void Retry(const Attempt& attempt);

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<auth::v1::AuthService::Stub> stub_;
  const std::string email_;
  const std::string password_;
  const std::string access_token_;

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::optional<Tokens> tokens_;
  /// Whether a login or refresh is wanted or in progress.
  bool renewing_ = false;
  /// Why the last login or refresh failed.
  std::optional<Error> failure_;
  /// Whether another attempt with the same credentials would fail in the same way.
  bool ended_ = false;
  /// Stopped first, because it uses the other members.
  std::jthread worker_;
};

}  // namespace taskey::internal
