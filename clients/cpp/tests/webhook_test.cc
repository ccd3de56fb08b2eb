#include "taskey/webhook.h"

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

namespace {

TEST(WebhookTest, MessagesAreVerifiedLikeTheVectors) {
  // `clients/webhooks` records further messages.
  const char* recorded = std::getenv("TASKEY_WEBHOOK_VECTORS");
  std::stringstream text;
  text << std::ifstream(recorded != nullptr ? recorded : "../conformance/webhooks.json").rdbuf();
  google::protobuf::Struct vectors;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(text.str(), &vectors).ok());
  const auto seconds = static_cast<std::int64_t>(vectors.fields().at("now").number_value());
  const std::chrono::system_clock::time_point now{std::chrono::seconds(seconds)};
  const auto& cases = vectors.fields().at("cases").list_value().values();
  ASSERT_GT(cases.size(), 0);
  for (const auto& value : cases) {
    const auto& fields = value.struct_value().fields();
    const auto& headers = fields.at("headers").struct_value().fields();
    const auto header = [&](std::string_view name) -> std::optional<std::string> {
      const auto found = headers.find(std::string(name));
      return found == headers.end() ? std::nullopt : std::optional(found->second.string_value());
    };
    const bool valid = taskey::VerifyWebhook(fields.at("secret").string_value(), header,
                                             fields.at("body").string_value(), now);
    EXPECT_EQ(valid, fields.at("valid").bool_value()) << fields.at("name").string_value();
  }
}

TEST(WebhookTest, InvalidSecretIsRefused) {
  const auto header = [](std::string_view) { return std::optional<std::string>("1"); };
  EXPECT_FALSE(taskey::VerifyWebhook("whsec_%", header, ""));
}

}  // namespace
