#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace taskey {

/// How far the timestamp of a message of a webhook may differ from the clock of the receiver.
inline constexpr std::chrono::seconds kWebhookTolerance{300};

/// Returns the value of the header with this name, if the message has it.
using WebhookHeader = std::function<std::optional<std::string>(std::string_view name)>;

/// Checks the signature and the timestamp of a message of a webhook, according to Standard Webhooks. `secret` is the one
/// that CreateWebhook or RotateWebhookSecret has returned, and `body` is the body as it was received. Returns false if
/// the message was not signed with this secret, or not recently. A message can arrive more than once: ignore those with a
/// `webhook-id` that was processed before.
bool VerifyWebhook(std::string_view secret, const WebhookHeader& header, std::string_view body,
                   std::chrono::system_clock::time_point now = std::chrono::system_clock::now());

}  // namespace taskey
