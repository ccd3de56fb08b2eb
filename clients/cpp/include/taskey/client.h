#pragma once

#include <google/protobuf/message.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "taskey/error.h"
#include "taskey/pages.h"
#include "taskey/watch.h"

namespace taskey {

namespace internal {
class Caller;
class Session;
}  // namespace internal

/// Settings of a client.
struct ClientOptions {
  /// The address of the gateway, such as `tasks.example.org:443`.
  std::string address;
  /// Connects without TLS.
  bool plaintext = false;
  /// Trusted certificate authorities, in PEM format. By default, those of the system.
  std::filesystem::path ca_file;
  /// The certificate chain and the private key of the client, in PEM format, for mutual TLS.
  std::filesystem::path cert_file;
  std::filesystem::path key_file;
  /// The client logs in at the first call, and keeps the session alive.
  std::string email;
  std::string password;
  /// An access token or a personal access token, which is sent as it is and never refreshed.
  std::string access_token;
};

/// Settings of a call.
struct CallOptions {
  /// When the call ends at the latest; by default, after the time in the service config, 10 s.
  std::optional<std::chrono::milliseconds> timeout;
  /// Cancels the call.
  std::stop_token stop;
};

/// A connection to Taskey. Thread-safe. Calls throw `Error`.
class Client {
 public:
  /// Creates a client. It connects at the first call.
  explicit Client(const ClientOptions& options);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// Calls a method, such as `client.Call(&TaskService::Stub::GetTask, request)`.
  template <class Stub, class Request, class Response>
  Response Call(grpc::Status (Stub::*)(grpc::ClientContext*, const Request&, Response*),
                const Request& request, const CallOptions& options = {}) {
    Response response;
    Call(request, &response, options);
    return response;
  }

  /// Calls the method that has requests of this type.
  void Call(const google::protobuf::Message& request, google::protobuf::Message* response,
            const CallOptions& options = {});

  /// Returns a range of the items of all pages, such as
  /// `client.List(&TaskService::Stub::ListTasks, request, &ListTasksResponse::tasks)`.
  template <class Stub, class Request, class Response, class Item>
  Pages<Request, Response, Item> List(
      grpc::Status (Stub::*)(grpc::ClientContext*, const Request&, Response*),
      const Request& request,
      const google::protobuf::RepeatedPtrField<Item>& (Response::*items)() const) {
    auto read = [this](const Request& page, Response* response) { Call(page, response); };
    return {read, request, items};
  }

  /// Watches the user's tasks from a sync token, or from the beginning if it is empty. The client
  /// must outlive the watch.
  TaskWatch WatchTasks(std::string sync_token = {});

  /// Returns a current access token; it logs in or refreshes the session if necessary.
  std::string AccessToken(const CallOptions& options = {});

  /// Revokes the session and forgets its tokens.
  void Logout();

  /// Returns the channel, for stubs without the features of this client.
  std::shared_ptr<grpc::Channel> channel() const { return channel_; }

 private:
  friend class TaskWatch;

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<internal::Caller> caller_;
  std::unique_ptr<internal::Session> session_;
};

}  // namespace taskey
