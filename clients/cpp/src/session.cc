#include "session.h"

#include <absl/strings/escaping.h>
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include <set>

#include "service_config.h"

namespace taskey::internal {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kAttempts = 5;
constexpr seconds kAttemptTimeout{5};
constexpr milliseconds kMaxDelay{5000};

/// After these codes, the response may have been lost, or another attempt may succeed.
bool IsTransient(const Error& error) {
  static const std::set<grpc::StatusCode> codes = {
      grpc::StatusCode::UNAVAILABLE, grpc::StatusCode::DEADLINE_EXCEEDED,
      grpc::StatusCode::CANCELLED, grpc::StatusCode::INTERNAL, grpc::StatusCode::UNKNOWN};
  bool waits = error.code == grpc::StatusCode::RESOURCE_EXHAUSTED && error.retry_after;
  return codes.contains(error.code) || waits;
}

/// Returns the claim `iat` of a token.
seconds IssuedAt(const std::string& token) {
  std::size_t begin = token.find('.') + 1;
  std::string json;
  google::protobuf::Struct claims;
  absl::WebSafeBase64Unescape(token.substr(begin, token.rfind('.') - begin), &json);
  if (!google::protobuf::util::JsonStringToMessage(json, &claims).ok()) {
    throw Error(grpc::Status(grpc::StatusCode::INTERNAL, "the access token is not a JWT"));
  }
  return seconds(static_cast<std::int64_t>(claims.fields().at("iat").number_value()));
}

}  // namespace

bool SleepFor(milliseconds duration, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait_for(lock, stop, duration, [] { return false; });
  return !stop.stop_requested();
}

Session::Session(std::shared_ptr<grpc::Channel> channel, const ClientOptions& options)
    : channel_(std::move(channel)),
      stub_(auth::v1::AuthService::NewStub(channel_)),
      email_(options.email),
      password_(options.password),
      access_token_(options.access_token) {
  if (!password_.empty()) {
    worker_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
  }
}

std::string Session::Token(Clock::time_point deadline, const std::stop_token& stop) {
  if (password_.empty()) {
    return access_token_;
  }
  std::unique_lock lock(mutex_);
  if (ended_) {
    throw Error(*failure_);
  }
  auto now = Clock::now();
  if (!renewing_ && (!tokens_ || now >= tokens_->refresh_at)) {
    renewing_ = true;
    failure_.reset();
    changed_.notify_all();
  }
  if (tokens_ && now < tokens_->access_end) {
    return tokens_->access;
  }
  if (!changed_.wait_until(lock, stop, deadline, [this] { return !renewing_; })) {
    throw Error(stop.stop_requested()
                    ? grpc::Status::CANCELLED
                    : grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED, "no access token in time"));
  }
  if (failure_ || !tokens_) {
    throw failure_ ? Error(*failure_) : Error(grpc::Status::CANCELLED);
  }
  return tokens_->access;
}

bool Session::Replace(const std::string& refused) {
  std::lock_guard lock(mutex_);
  if (tokens_ && tokens_->access == refused) {
    tokens_->refresh_at = tokens_->access_end = Clock::now();
  }
  return !password_.empty();
}

void Session::Logout() {
  std::string refresh;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !renewing_; });
    refresh = tokens_ ? tokens_->refresh : "";
    tokens_.reset();
    failure_.reset();
    ended_ = false;
  }
  if (refresh.empty() && access_token_.empty()) {
    return;
  }
  auth::v1::LogoutRequest request;
  request.set_refresh_token(refresh);
  Retry([&](grpc::ClientContext& context) {
    if (!access_token_.empty()) {
      context.AddMetadata("authorization", "Bearer " + access_token_);
    }
    auth::v1::LogoutResponse response;
    return stub_->Logout(&context, request, &response);
  });
}

void Session::Run(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [this] { return renewing_; })) {
    std::optional<Tokens> old = tokens_;
    lock.unlock();
    std::optional<Tokens> renewed;
    std::optional<Error> failure;
    try {
      renewed = old ? Refresh(*old) : Login();
    } catch (const Error& error) {
      failure = error;
    }
    lock.lock();
    if (renewed) {
      tokens_ = std::move(renewed);
    } else if (tokens_) {
      // The current token may still be valid.
      tokens_->refresh_at = Clock::now() + seconds(1);
    }
    failure_ = failure;
    // Another attempt would fail in the same way, or end the session of somebody else.
    ended_ = failure && (failure->code == grpc::StatusCode::UNAUTHENTICATED ||
                         failure->code == grpc::StatusCode::ABORTED);
    renewing_ = false;
    changed_.notify_all();
  }
  // Waiting calls end.
  renewing_ = false;
  changed_.notify_all();
}

Session::Tokens Session::Login() {
  auth::v1::LoginRequest request;
  request.set_email(email_);
  request.set_password(password_);
  auth::v1::TokenPair pair;
  Clock::time_point started;
  Retry([&](grpc::ClientContext& context) {
    started = Clock::now();
    return stub_->Login(&context, request, &pair);
  });
  return ToTokens(started, pair);
}

/// Sends the same refresh token until there is a response: the server repeats one that was lost.
Session::Tokens Session::Refresh(const Tokens& old) {
  auth::v1::RefreshRequest request;
  request.set_refresh_token(old.refresh);
  auth::v1::TokenPair pair;
  Clock::time_point started;
  try {
    Retry([&](grpc::ClientContext& context) {
      started = Clock::now();
      return stub_->Refresh(&context, request, &pair);
    });
  } catch (const Error& error) {
    // Only an expired session is replaced, not one that was revoked.
    if (error.reason == "REFRESH_TOKEN_INVALID" && Clock::now() >= old.session_end) {
      return Login();
    }
    throw;
  }
  return ToTokens(started, pair);
}

void Session::Retry(const Attempt& attempt) {
  std::stop_token stop = worker_.get_stop_token();
  for (int attempts = 1;; ++attempts) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kAttemptTimeout);
    std::stop_callback cancel(stop, [&] { context.TryCancel(); });
    grpc::Status status = attempt(context);
    if (status.ok()) {
      return;
    }
    Error error(status);
    milliseconds delay = error.retry_after.value_or(WritePolicy().Backoff(attempts));
    bool retries = attempts < kAttempts && IsTransient(error) && delay <= kMaxDelay;
    if (!retries || !SleepFor(delay, stop)) {
      throw error;
    }
    grpc::experimental::ChannelResetConnectionBackoff(channel_.get());
  }
}

/// Measures the lifetimes by the clock of the server and from before the call, because clocks may
/// differ.
Session::Tokens Session::ToTokens(Clock::time_point started, const auth::v1::TokenPair& pair) {
  seconds issued = IssuedAt(pair.access_token());
  seconds access = seconds(pair.access_expire_time().seconds()) - issued;
  seconds session = seconds(pair.refresh_expire_time().seconds()) - issued;
  return {pair.access_token(), pair.refresh_token(), started + access * 8 / 10, started + access,
          started + session};
}

}  // namespace taskey::internal
