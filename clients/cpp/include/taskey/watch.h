#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "taskey/error.h"
#include "taskey/task/v1/task_service.grpc.pb.h"

namespace taskey {

class Client;

/// The changes to the user's tasks and lists, as they happen. It resumes after interruptions.
class TaskWatch {
 public:
  struct Event {
    /// Whether a full synchronization begins: empty the local copy before applying the changes.
    bool reset = false;
    /// The changes to tasks, in the order in which they happened.
    std::vector<task::v1::TaskChange> changes;
    /// The changes to lists, in the order in which they happened.
    std::vector<task::v1::TaskListChange> list_changes;
    /// The token with which a later watch continues after this event.
    std::string sync_token;
    /// Whether all changes so far have been received.
    bool checkpoint = false;
  };

  TaskWatch(Client& client, std::string sync_token);
  ~TaskWatch();
  TaskWatch(const TaskWatch&) = delete;
  TaskWatch& operator=(const TaskWatch&) = delete;

  /// Waits for the next event. Throws `Error` if the watch cannot continue, or was stopped.
  Event Next();

  /// Ends the watch, also while another thread waits for the next event.
  void Stop() { stop_.request_stop(); }

 private:
  void Open();
  grpc::Status Close();
  void Recover(const Error& error);
  bool IsReplaced(const Error& error);
  void ResumeLater(std::chrono::milliseconds at_least);

  Client* client_;
  std::string sync_token_;
  bool reset_;
  std::chrono::milliseconds backoff_{0};
  std::string token_;
  std::stop_source stop_;
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientReader<task::v1::WatchTasksResponse>> stream_;
  std::optional<std::stop_callback<std::function<void()>>> cancel_;
};

}  // namespace taskey
