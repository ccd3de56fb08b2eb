#include "proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <stdexcept>
#include <vector>

namespace {

sockaddr_in Local(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

}  // namespace

Proxy::Proxy(int target) : listener_(socket(AF_INET, SOCK_STREAM, 0)), target_(target) {
  sockaddr_in address = Local(0);
  socklen_t size = sizeof address;
  if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      listen(listener_, 50) != 0 ||
      getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    throw std::runtime_error("cannot listen");
  }
  port_ = ntohs(address.sin_port);
  acceptor_ = std::jthread([this] { Accept(); });
}

Proxy::~Proxy() {
  is_closed_ = true;
  shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  Cut();
  threads_.clear();
  for (Connection& connection : connections_) {
    close(connection.client);
    close(connection.server);
  }
  close(listener_);
}

void Proxy::Cut() {
  std::lock_guard lock(mutex_);
  for (Connection& connection : connections_) {
    shutdown(connection.client, SHUT_RDWR);
    shutdown(connection.server, SHUT_RDWR);
  }
}

void Proxy::Accept() {
  while (!is_closed_) {
    int client = accept(listener_, nullptr, nullptr);
    if (client < 0) {
      return;
    }
    int server = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = Local(target_);
    if (connect(server, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      close(client);
      close(server);
      continue;
    }
    std::lock_guard lock(mutex_);
    Connection& connection = connections_.emplace_back();
    connection.client = client;
    connection.server = server;
    threads_.emplace_back([this, &connection] { Forward(connection, true); });
    threads_.emplace_back([this, &connection] { Forward(connection, false); });
  }
}

void Proxy::Forward(Connection& connection, bool is_request) {
  int from = is_request ? connection.client : connection.server;
  int to = is_request ? connection.server : connection.client;
  std::vector<char> buffer(64 * 1024);
  for (ssize_t size = 0; (size = recv(from, buffer.data(), buffer.size(), 0)) > 0;) {
    bool loses_response = is_request && loses_next_response_.exchange(false);
    if (loses_response) {
      connection.is_frozen = true;
    }
    if ((!connection.is_frozen || loses_response) &&
        send(to, buffer.data(), static_cast<std::size_t>(size), MSG_NOSIGNAL) < 0) {
      break;
    }
    if (loses_response) {
      // The server executes the request.
      std::this_thread::sleep_for(std::chrono::milliseconds(500));
      break;
    }
  }
  shutdown(connection.client, SHUT_RDWR);
  shutdown(connection.server, SHUT_RDWR);
}
