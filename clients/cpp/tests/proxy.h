#pragma once

#include <atomic>
#include <list>
#include <mutex>
#include <string>
#include <thread>

/// A TCP proxy that simulates network failures.
class Proxy {
 public:
  /// Forwards connections to a local port.
  explicit Proxy(int target);
  ~Proxy();

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  void set_target(int port) { target_ = port; }

  /// Closes the connection after the next request has been executed, and drops the response.
  void LoseNextResponse() { loses_next_response_ = true; }

  /// Closes all connections.
  void Cut();

 private:
  struct Connection {
    int client;
    int server;
    std::atomic<bool> is_frozen{false};
  };

  void Accept();
  void Forward(Connection& connection, bool is_request);

  int listener_;
  int port_;
  std::atomic<int> target_;
  std::atomic<bool> loses_next_response_{false};
  std::atomic<bool> is_closed_{false};
  std::mutex mutex_;
  std::list<Connection> connections_;
  std::list<std::jthread> threads_;
  std::jthread acceptor_;
};
