#include "taskey/client.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <set>
#include <thread>

#include "proxy.h"
#include "server.h"
#include "taskey/auth/v1/account_service.grpc.pb.h"
#include "taskey/auth/v1/auth_service.grpc.pb.h"
#include "taskey/task/v1/task_service.grpc.pb.h"

namespace {

using namespace std::chrono_literals;
using taskey::auth::v1::AccountService;
using taskey::auth::v1::AuthService;
using taskey::task::v1::CreateTaskRequest;
using taskey::task::v1::GetTaskRequest;
using taskey::task::v1::ListTasksRequest;
using taskey::task::v1::ListTasksResponse;
using taskey::task::v1::Task;
using taskey::task::v1::TaskService;

constexpr char kEmail[] = "ann@example.org";
constexpr char kPassword[] = "a long enough passphrase";

taskey::ClientOptions WithPassword(const std::string& address) {
  return {.address = address,
          .plaintext = true,
          .ca_file = {},
          .cert_file = {},
          .key_file = {},
          .email = kEmail,
          .password = kPassword,
          .access_token = {}};
}

taskey::ClientOptions WithToken(const std::string& address, const std::string& token) {
  taskey::ClientOptions options = WithPassword(address);
  options.password.clear();
  options.access_token = token;
  return options;
}

CreateTaskRequest Create(const std::string& title) {
  CreateTaskRequest request;
  request.mutable_task()->set_title(title);
  return request;
}

template <class Call>
taskey::Error Failure(Call call) {
  try {
    call();
  } catch (const taskey::Error& error) {
    return error;
  }
  throw std::runtime_error("the call has not failed");
}

class ClientTest : public testing::Test {
 protected:
  ClientTest() {
    taskey::Client guest(WithToken(server_.address(), ""));
    taskey::auth::v1::SignUpRequest request;
    request.set_email(kEmail);
    request.set_password(kPassword);
    guest.Call(&AuthService::Stub::SignUp, request);
  }

  /// Returns the number of logins of the user.
  long CountLogins() {
    taskey::auth::v1::ListMySecurityEventsRequest request;
    long count = 0;
    for (const auto& event :
         client_.List(&AccountService::Stub::ListMySecurityEvents, request,
                      &taskey::auth::v1::ListMySecurityEventsResponse::events)) {
      count += event.kind() == taskey::auth::v1::AuditEvent::KIND_LOGIN ? 1 : 0;
    }
    return count;
  }

  void GetMe() { client_.Call(&AccountService::Stub::GetMe, taskey::auth::v1::GetMeRequest()); }

  /// Creates a task over a new connection, which is not affected by failures of the others.
  void CreateWithAnotherClient(const std::string& title) {
    taskey::Client other(WithPassword(server_.address()));
    other.Call(&TaskService::Stub::CreateTask, Create(title));
  }

  // Expired tokens are accepted for another 5 s.
  Server server_{{"--access-token-ttl=3s"}};
  Proxy proxy_{server_.port()};
  taskey::Client client_{WithPassword(proxy_.address())};
};

TEST_F(ClientTest, LogoutRevokesTheAccessToken) {
  Task task = client_.Call(&TaskService::Stub::CreateTask, Create("Buy milk"));
  GetTaskRequest request;
  request.set_id(task.id());
  EXPECT_EQ(client_.Call(&TaskService::Stub::GetTask, request).title(), "Buy milk");
  taskey::Client other(WithToken(server_.address(), client_.AccessToken()));
  client_.Logout();
  taskey::Error error =
      Failure([&] { other.Call(&AccountService::Stub::GetMe, taskey::auth::v1::GetMeRequest()); });
  EXPECT_EQ(error.code, grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(error.reason, "TOKEN_REVOKED");
}

TEST_F(ClientTest, ErrorsHaveAReasonAndTheInvalidFields) {
  taskey::Error error = Failure([&] { client_.Call(&TaskService::Stub::CreateTask, Create("")); });
  EXPECT_EQ(error.code, grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(error.reason, "VALIDATION_FAILED");
  ASSERT_EQ(error.violations.size(), 1U);
  EXPECT_EQ(error.violations[0].field, "task.title");
  EXPECT_FALSE(error.request_id.empty());
}

TEST_F(ClientTest, ListReturnsTheItemsOfAllPages) {
  for (int i = 0; i < 7; ++i) {
    client_.Call(&TaskService::Stub::CreateTask, Create("A task"));
  }
  ListTasksRequest request;
  request.set_page_size(3);
  std::set<std::string> ids;
  for (const Task& task :
       client_.List(&TaskService::Stub::ListTasks, request, &ListTasksResponse::tasks)) {
    ids.insert(task.id());
  }
  EXPECT_EQ(ids.size(), 7U);
}

TEST_F(ClientTest, BatchCreatesAndDeletesTasks) {
  Task old = client_.Call(&TaskService::Stub::CreateTask, Create("Old"));
  taskey::task::v1::BatchWriteTasksRequest batch;
  *batch.add_writes()->mutable_create() = Create("New");
  batch.add_writes()->mutable_delete_()->set_id(old.id());
  client_.Call(&TaskService::Stub::BatchWriteTasks, batch);
  auto response = client_.Call(&TaskService::Stub::ListTasks, ListTasksRequest());
  ASSERT_EQ(response.tasks_size(), 1);
  EXPECT_EQ(response.tasks(0).title(), "New");
}

TEST_F(ClientTest, ConcurrentCallsWithAnExpiredTokenShareOneRefresh) {
  std::string first = client_.AccessToken();
  std::this_thread::sleep_for(8500ms);
  std::atomic<int> failures = 0;
  std::vector<std::string> tokens(50);
  {
    std::vector<std::jthread> threads;
    for (std::string& token : tokens) {
      threads.emplace_back([&] {
        try {
          GetMe();
          token = client_.AccessToken();
        } catch (const taskey::Error&) {
          ++failures;
        }
      });
    }
  }
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(std::set<std::string>(tokens.begin(), tokens.end()).size(), 1U);
  EXPECT_NE(tokens[0], first);
  EXPECT_EQ(CountLogins(), 1);
}

TEST_F(ClientTest, LostResponseOfARefreshDoesNotEndTheSession) {
  std::string first = client_.AccessToken();
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(3100ms);
    proxy_.LoseNextResponse();
    GetMe();
  }
  EXPECT_NE(client_.AccessToken(), first);
  EXPECT_EQ(CountLogins(), 1);
}

TEST_F(ClientTest, LostResponseOfAWriteCreatesOneTask) {
  client_.AccessToken();
  proxy_.LoseNextResponse();
  EXPECT_EQ(client_.Call(&TaskService::Stub::CreateTask, Create("Once")).title(), "Once");
  EXPECT_EQ(client_.Call(&TaskService::Stub::ListTasks, ListTasksRequest()).tasks_size(), 1);
}

std::string NextTitle(taskey::TaskWatch& watch) {
  while (true) {
    auto event = watch.Next();
    EXPECT_FALSE(event.reset);
    if (!event.changes.empty()) {
      return event.changes.back().task().title();
    }
  }
}

TEST_F(ClientTest, WatchSurvivesACutARestartAndTheExpiryOfItsToken) {
  taskey::TaskWatch watch = client_.WatchTasks();
  EXPECT_TRUE(watch.Next().reset);
  proxy_.Cut();
  CreateWithAnotherClient("After the cut");
  EXPECT_EQ(NextTitle(watch), "After the cut");

  server_.Stop();
  server_.Start();
  proxy_.set_target(server_.port());
  CreateWithAnotherClient("After the restart");
  EXPECT_EQ(NextTitle(watch), "After the restart");

  auto waiting = std::async(std::launch::async, [&] { return NextTitle(watch); });
  std::this_thread::sleep_for(9s);
  CreateWithAnotherClient("After the expiry");
  EXPECT_EQ(waiting.get(), "After the expiry");
}

TEST_F(ClientTest, StopEndsAWaitingWatch) {
  taskey::TaskWatch watch = client_.WatchTasks();
  watch.Next();
  auto waiting =
      std::async(std::launch::async, [&] { return Failure([&] { watch.Next(); }).code; });
  std::this_thread::sleep_for(200ms);
  watch.Stop();
  EXPECT_EQ(waiting.get(), grpc::StatusCode::CANCELLED);
}

TEST_F(ClientTest, DeadlineAndCancellationEndACall) {
  taskey::Error late = Failure([&] {
    client_.Call(&TaskService::Stub::CreateTask, Create("Never"), {.timeout = 0ms, .stop = {}});
  });
  EXPECT_EQ(late.code, grpc::StatusCode::DEADLINE_EXCEEDED);
  client_.AccessToken();
  std::stop_source stop;
  stop.request_stop();
  taskey::Error cancelled = Failure([&] {
    client_.Call(&TaskService::Stub::CreateTask, Create("Never"),
                 {.timeout = {}, .stop = stop.get_token()});
  });
  EXPECT_EQ(cancelled.code, grpc::StatusCode::CANCELLED);
}

}  // namespace
