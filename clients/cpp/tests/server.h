#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

/// A running Taskey: the program in the variable TASKEY_BIN, or the debug build of this repository.
class Server {
 public:
  /// Starts a server with an empty database.
  explicit Server(std::vector<std::string> flags = {});
  ~Server();

  /// Starts the server again, with the same data, at another address.
  void Start();
  void Stop();

  /// Returns the port of the gateway.
  int port() const { return port_; }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  std::vector<std::string> flags_;
  std::filesystem::path data_;
  pid_t process_ = -1;
  int port_ = 0;
};
