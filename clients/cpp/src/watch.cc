#include "taskey/watch.h"

#include <algorithm>
#include <random>
#include <set>

#include "session.h"
#include "taskey/client.h"

namespace taskey {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kMinBackoff{100};
constexpr milliseconds kMaxBackoff{5000};
constexpr std::chrono::seconds kTokenTimeout{10};

bool IsTransient(const Error& error) {
  static const std::set<grpc::StatusCode> codes = {
      grpc::StatusCode::UNAVAILABLE, grpc::StatusCode::INTERNAL,
      grpc::StatusCode::UNKNOWN,     grpc::StatusCode::CANCELLED,
      grpc::StatusCode::ABORTED,     grpc::StatusCode::DEADLINE_EXCEEDED};
  bool is_limited = error.code == grpc::StatusCode::RESOURCE_EXHAUSTED &&
                    (error.retry_after || error.reason == "OVERLOADED");
  return is_limited || codes.contains(error.code);
}

}  // namespace

TaskWatch::TaskWatch(Client& client, std::string sync_token)
    : client_(&client), sync_token_(std::move(sync_token)), reset_(sync_token_.empty()) {}

TaskWatch::~TaskWatch() {
  Stop();
  Close();
}

TaskWatch::Event TaskWatch::Next() {
  while (true) {
    try {
      if (!stream_) {
        Open();
      }
      task::v1::WatchTasksResponse message;
      if (stream_->Read(&message)) {
        Event event{std::exchange(reset_, false),
                    {message.changes().begin(), message.changes().end()},
                    {message.list_changes().begin(), message.list_changes().end()},
                    message.sync_token(),
                    message.checkpoint()};
        sync_token_ = message.sync_token();
        backoff_ = milliseconds(0);
        return event;
      }
      grpc::Status status = Close();
      if (!status.ok()) {
        throw Error(status);
      }
      ResumeLater(milliseconds(0));
    } catch (const Error& error) {
      Recover(error);
    }
  }
}

void TaskWatch::Open() {
  auto deadline = std::chrono::system_clock::now() + kTokenTimeout;
  token_ = client_->session_->Token(deadline, stop_.get_token());
  context_ = std::make_unique<grpc::ClientContext>();
  if (!token_.empty()) {
    context_->AddMetadata("authorization", "Bearer " + token_);
  }
  cancel_.emplace(stop_.get_token(), [context = context_.get()] { context->TryCancel(); });
  task::v1::WatchTasksRequest request;
  request.set_sync_token(sync_token_);
  stream_ = task::v1::TaskService::NewStub(client_->channel_)->WatchTasks(context_.get(), request);
}

grpc::Status TaskWatch::Close() {
  grpc::Status status = stream_ ? stream_->Finish() : grpc::Status::OK;
  stream_.reset();
  cancel_.reset();
  return status;
}

void TaskWatch::Recover(const Error& error) {
  if (stop_.stop_requested()) {
    throw Error(grpc::Status(grpc::StatusCode::CANCELLED, "the watch was stopped"));
  } else if (error.reason == "SYNC_TOKEN_EXPIRED" && !sync_token_.empty()) {
    sync_token_.clear();
    reset_ = true;
  } else if (IsTransient(error) || IsReplaced(error)) {
    ResumeLater(error.retry_after.value_or(milliseconds(0)));
  } else {
    throw error;
  }
}

/// Replaces an expired token. A second refusal in a row shows that the token cannot be replaced.
bool TaskWatch::IsReplaced(const Error& error) {
  return error.reason == "TOKEN_EXPIRED" && client_->session_->Replace(token_) &&
         backoff_.count() == 0;
}

void TaskWatch::ResumeLater(milliseconds at_least) {
  thread_local std::mt19937 random{std::random_device{}()};
  double wait = static_cast<double>(std::max(backoff_, at_least).count());
  milliseconds delay(std::llround(wait * std::uniform_real_distribution<>(1, 1.5)(random)));
  backoff_ = std::clamp(backoff_ * 2, kMinBackoff, kMaxBackoff);
  if (!internal::SleepFor(delay, stop_.get_token())) {
    throw Error(grpc::Status(grpc::StatusCode::CANCELLED, "the watch was stopped"));
  }
  grpc::experimental::ChannelResetConnectionBackoff(client_->channel_.get());
}

}  // namespace taskey
