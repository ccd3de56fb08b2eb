#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <vector>

#include "taskey/auth/v1/auth_service.grpc.pb.h"
#include "taskey/client.h"

namespace {

using taskey::auth::v1::AuthService;
using taskey::auth::v1::LoginRequest;
using taskey::auth::v1::RefreshRequest;
using taskey::auth::v1::TokenPair;

/// A server that returns the tokens of the test.
class TokenIssuer : public AuthService::Service {
 public:
  grpc::Status Login(grpc::ServerContext*, const LoginRequest*, TokenPair* pair) override {
    *pair = tokens;
    pair->set_access_token("of the login");
    return grpc::Status::OK;
  }
  grpc::Status Refresh(grpc::ServerContext*, const RefreshRequest*, TokenPair* pair) override {
    ++refreshes;
    *pair = tokens;
    pair->set_access_token("of the refresh");
    return grpc::Status::OK;
  }

  TokenPair tokens;
  std::atomic<int> refreshes = 0;
};

class SessionTest : public testing::Test {
 protected:
  SessionTest() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&issuer_);
    server_ = builder.BuildAndStart();
    issuer_.tokens.set_refresh_token("refresh");
  }

  /// Returns the access tokens of two calls of a new client.
  std::vector<std::string> TwoTokens() {
    taskey::ClientOptions options;
    options.address = "127.0.0.1:" + std::to_string(port_);
    options.plaintext = true;
    options.email = "ann@example.org";
    options.password = "a long enough passphrase";
    taskey::Client client(options);
    std::string first = client.AccessToken();
    return {first, client.AccessToken()};
  }

  int port_ = 0;
  TokenIssuer issuer_;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(SessionTest, LifetimesAreThoseOfTheServerIfTheClockIsWrong) {
  // In the past for this machine.
  issuer_.tokens.mutable_access_expire_time()->set_seconds(1);
  issuer_.tokens.mutable_refresh_expire_time()->set_seconds(1);
  issuer_.tokens.mutable_access_lifetime()->set_seconds(300);
  issuer_.tokens.mutable_refresh_lifetime()->set_seconds(3000);
  EXPECT_EQ(TwoTokens(), (std::vector<std::string>{"of the login", "of the login"}));
  EXPECT_EQ(issuer_.refreshes, 0);
}

TEST_F(SessionTest, LifetimesFollowFromTheExpireTimesOfAnOlderServer) {
  auto now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  issuer_.tokens.mutable_access_expire_time()->set_seconds(now + 300);
  EXPECT_EQ(TwoTokens(), (std::vector<std::string>{"of the login", "of the login"}));
  issuer_.tokens.mutable_access_expire_time()->set_seconds(now - 1);
  EXPECT_EQ(TwoTokens(), (std::vector<std::string>{"of the login", "of the refresh"}));
}

}  // namespace
