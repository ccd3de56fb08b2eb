#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include "call.h"
#include "taskey/auth/v1/auth_service.pb.h"
#include "taskey/client.h"

namespace taskey::internal {

/// Provides access tokens: logs in, and refreshes the session, one call at a time.
class Session {
 public:
  Session(Caller& caller, const ClientOptions& options);

  /// Returns a token, or an empty string if the client has no credentials. Starts a refresh ahead
  /// of the expiry.
  std::string Token(std::chrono::system_clock::time_point deadline, const std::stop_token& stop);

  /// Replaces a token that the server refused as expired. Returns whether there can be another one.
  bool Replace(const std::string& refused);

  /// Revokes the session and forgets its tokens. The next call logs in again.
  void Logout();

 private:
  using Clock = std::chrono::steady_clock;

  void Renew(const std::stop_token& stop);
  auth::v1::TokenPair LoginOrRefresh(const std::stop_token& stop);
  void Accept(const auth::v1::TokenPair& renewed, Clock::time_point started);

  Caller& caller_;
  const std::string email_;
  const std::string password_;
  const std::string access_token_;

  std::mutex mutex_;
  std::condition_variable_any changed_;
  /// Not changed by other threads during a renewal.
  std::optional<auth::v1::TokenPair> tokens_;
  Clock::time_point refresh_time_;
  Clock::time_point access_end_;
  Clock::time_point session_end_;
  bool is_renewing_ = false;
  /// Why the last login or refresh failed.
  std::optional<Error> failure_;
  /// Whether another attempt with the same credentials would fail in the same way.
  bool has_ended_ = false;
  /// Stopped first, because it uses the other members.
  std::jthread renewal_;
};

}  // namespace taskey::internal
