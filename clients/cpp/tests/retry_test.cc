#include <gtest/gtest.h>

#include <atomic>
#include <chrono>

#include "taskey/client.h"
#include "taskey/task/v1/task_service.grpc.pb.h"

namespace {

using taskey::task::v1::GetTaskRequest;
using taskey::task::v1::Task;
using taskey::task::v1::TaskService;

/// A server that returns the status of the test.
class FailingService : public TaskService::Service {
 public:
  grpc::Status GetTask(grpc::ServerContext* context, const GetTaskRequest*, Task*) override {
    ++attempts;
    if (!pushback.empty()) {
      context->AddTrailingMetadata("grpc-retry-pushback-ms", pushback);
    }
    return status;
  }

  std::atomic<int> attempts = 0;
  grpc::Status status{grpc::StatusCode::UNAVAILABLE, "overloaded"};
  std::string pushback;
};

class RetryTest : public testing::Test {
 protected:
  RetryTest() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    taskey::ClientOptions options;
    options.address = "127.0.0.1:" + std::to_string(port_);
    options.plaintext = true;
    client_ = std::make_unique<taskey::Client>(options);
  }

  void GetTask() { client_->Call(&TaskService::Stub::GetTask, GetTaskRequest()); }

  int AttemptsOfAFailingCall() {
    service_.attempts = 0;
    EXPECT_THROW(GetTask(), taskey::Error);
    return service_.attempts;
  }

  int port_ = 0;
  FailingService service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<taskey::Client> client_;
};

TEST_F(RetryTest, FailuresUseUpTheTokensOfRetriesAndSuccessesAddToThem) {
  EXPECT_EQ(AttemptsOfAFailingCall(), 3);
  // Retries need more than 5 of 10 tokens.
  EXPECT_EQ(AttemptsOfAFailingCall(), 2);
  EXPECT_EQ(AttemptsOfAFailingCall(), 1);
  service_.status = grpc::Status::OK;
  for (int i = 0; i < 21; ++i) {
    GetTask();
  }
  service_.status = grpc::Status(grpc::StatusCode::UNAVAILABLE, "overloaded");
  EXPECT_EQ(AttemptsOfAFailingCall(), 2);
}

TEST_F(RetryTest, PushbackDelaysTheRetry) {
  service_.pushback = "300";
  auto started = std::chrono::steady_clock::now();
  EXPECT_EQ(AttemptsOfAFailingCall(), 3);
  EXPECT_GE(std::chrono::steady_clock::now() - started, std::chrono::milliseconds(600));
}

TEST_F(RetryTest, PushbackBeyondTheDeadlineOrWithoutANumberEndsTheCall) {
  for (const char* pushback : {"60000", "-1", "never"}) {
    service_.pushback = pushback;
    auto started = std::chrono::steady_clock::now();
    EXPECT_EQ(AttemptsOfAFailingCall(), 1);
    EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::seconds(5));
  }
}

}  // namespace
