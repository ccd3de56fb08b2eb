#include "server.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdexcept>

namespace {

std::filesystem::path NewFolder() {
  std::string name = std::filesystem::temp_directory_path() / "taskey-cpp-XXXXXX";
  if (mkdtemp(name.data()) == nullptr) {
    throw std::runtime_error("cannot create a folder");
  }
  return name;
}

}  // namespace

Server::Server(std::vector<std::string> flags) : flags_(std::move(flags)), data_(NewFolder()) {
  Start();
}

Server::~Server() {
  Stop();
  std::error_code ignored;
  std::filesystem::remove_all(data_, ignored);
}

void Server::Start() {
  const char* configured = getenv("TASKEY_BIN");
  std::vector<std::string> arguments = {
      configured == nullptr ? "../../target/debug/taskey" : configured,
      "--data-dir=" + data_.string(),
      "--auth-listen=127.0.0.1:0",
      "--task-listen=127.0.0.1:0",
      "--gateway-listen=127.0.0.1:0",
      "--rate-limits=off",
      "--drain-timeout=1s",
      "--log=warn"};
  arguments.insert(arguments.end(), flags_.begin(), flags_.end());
  int output[2];
  if (pipe2(output, O_CLOEXEC) != 0) {
    throw std::runtime_error("cannot create a pipe");
  }
  process_ = fork();
  if (process_ == 0) {
    dup2(output[1], STDOUT_FILENO);
    std::vector<char*> pointers;
    for (std::string& argument : arguments) {
      pointers.push_back(argument.data());
    }
    pointers.push_back(nullptr);
    execv(pointers[0], pointers.data());
    _exit(127);
  }
  close(output[1]);
  FILE* lines = fdopen(output[0], "r");
  const std::string prefix = "listening gateway 127.0.0.1:";
  port_ = 0;
  char line[512];
  while (port_ == 0 && fgets(line, sizeof line, lines) != nullptr) {
    if (std::string text = line; text.starts_with(prefix)) {
      port_ = std::stoi(text.substr(prefix.size()));
    }
  }
  // The server writes nothing else to standard output.
  if (port_ == 0) {
    throw std::runtime_error("the server has ended: " + arguments[0]);
  }
}

void Server::Stop() {
  if (process_ > 0) {
    kill(process_, SIGTERM);
    waitpid(process_, nullptr, 0);
    process_ = -1;
  }
}
