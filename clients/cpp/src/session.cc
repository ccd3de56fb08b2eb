#include "session.h"

namespace taskey::internal {

namespace {

using std::chrono::seconds;
using std::chrono::system_clock;

/// The time in which a half-open connection is noticed, so that the response of a lost refresh is
/// received on another, and less than the 60 s for which the server repeats it.
constexpr seconds kTimeout{30};
constexpr seconds kDelayAfterFailure{1};

/// Uses the expire time, and thus the clock of this machine, if an older server sent no lifetime.
seconds Lifetime(const google::protobuf::Duration& lifetime,
                 const google::protobuf::Timestamp& expire_time) {
  auto now = std::chrono::floor<seconds>(system_clock::now());
  return lifetime.seconds() > 0 ? seconds(lifetime.seconds())
                                : seconds(expire_time.seconds()) - now.time_since_epoch();
}

CallSettings Settings(std::string token, const std::stop_token& stop) {
  return {std::move(token), system_clock::now() + kTimeout, stop, /*is_repeatable=*/true};
}

}  // namespace

Session::Session(Caller& caller, const ClientOptions& options)
    : caller_(caller),
      email_(options.email),
      password_(options.password),
      access_token_(options.access_token) {}

std::string Session::Token(system_clock::time_point deadline, const std::stop_token& stop) {
  if (password_.empty()) {
    return access_token_;
  }
  std::unique_lock lock(mutex_);
  if (has_ended_) {
    throw Error(*failure_);
  }
  auto now = Clock::now();
  if (!is_renewing_ && (!tokens_ || now >= refresh_time_)) {
    is_renewing_ = true;
    renewal_ = std::jthread([this](const std::stop_token& closed) { Renew(closed); });
  }
  if (tokens_ && now < access_end_) {
    return tokens_->access_token();
  }
  if (!changed_.wait_until(lock, stop, deadline, [this] { return !is_renewing_; })) {
    throw Error(stop.stop_requested()
                    ? grpc::Status::CANCELLED
                    : grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED, "no access token in time"));
  }
  if (failure_ || !tokens_) {
    throw failure_ ? *failure_ : Error(grpc::Status::CANCELLED);
  }
  return tokens_->access_token();
}

bool Session::Replace(const std::string& refused) {
  std::lock_guard lock(mutex_);
  if (tokens_ && tokens_->access_token() == refused) {
    refresh_time_ = access_end_ = Clock::now();
  }
  return !password_.empty();
}

void Session::Logout() {
  auth::v1::LogoutRequest request;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !is_renewing_; });
    if (tokens_) {
      request.set_refresh_token(tokens_->refresh_token());
    }
    tokens_.reset();
    failure_.reset();
    has_ended_ = false;
  }
  if (!request.refresh_token().empty() || !access_token_.empty()) {
    auth::v1::LogoutResponse response;
    caller_.Call(request, &response, Settings(access_token_, {}));
  }
}

void Session::Renew(const std::stop_token& stop) {
  auto started = Clock::now();
  std::optional<Error> failure;
  try {
    Accept(LoginOrRefresh(stop), started);
  } catch (const Error& error) {
    failure = error;
  }
  std::lock_guard lock(mutex_);
  // The current token may still be valid.
  refresh_time_ = failure ? Clock::now() + kDelayAfterFailure : refresh_time_;
  failure_ = failure;
  // Another attempt would fail in the same way, or end the session of somebody else.
  has_ended_ = failure && (failure->code == grpc::StatusCode::UNAUTHENTICATED ||
                           failure->code == grpc::StatusCode::ABORTED);
  is_renewing_ = false;
  changed_.notify_all();
}

/// Sends the same refresh token until there is a response: the server repeats one that was lost.
auth::v1::TokenPair Session::LoginOrRefresh(const std::stop_token& stop) {
  auth::v1::TokenPair renewed;
  if (tokens_) {
    auth::v1::RefreshRequest refresh;
    refresh.set_refresh_token(tokens_->refresh_token());
    try {
      caller_.Call(refresh, &renewed, Settings("", stop));
      return renewed;
    } catch (const Error& error) {
      // Only an expired session is replaced, not one that was revoked.
      if (error.reason != "REFRESH_TOKEN_INVALID" || Clock::now() < session_end_) {
        throw;
      }
    }
  }
  auth::v1::LoginRequest login;
  login.set_email(email_);
  login.set_password(password_);
  caller_.Call(login, &renewed, Settings("", stop));
  return renewed;
}

/// Measures the lifetimes from before the call.
void Session::Accept(const auth::v1::TokenPair& renewed, Clock::time_point started) {
  seconds access = Lifetime(renewed.access_lifetime(), renewed.access_expire_time());
  seconds session = Lifetime(renewed.refresh_lifetime(), renewed.refresh_expire_time());
  std::lock_guard lock(mutex_);
  tokens_ = renewed;
  refresh_time_ = started + access * 8 / 10;
  access_end_ = started + access;
  session_end_ = started + session;
}

}  // namespace taskey::internal
