#include "taskey/webhook.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <vector>

namespace taskey {
namespace {

constexpr std::string_view kPrefix = "whsec_";
constexpr std::string_view kVersion = "v1,";

/// Decodes base64 with padding. The text must not be empty.
std::optional<std::vector<unsigned char>> Decode(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) {
    return std::nullopt;
  }
  std::vector<unsigned char> bytes(text.size() / 4 * 3);
  const auto* input = reinterpret_cast<const unsigned char*>(text.data());
  if (EVP_DecodeBlock(bytes.data(), input, static_cast<int>(text.size())) < 0) {
    return std::nullopt;
  }
  // EVP_DecodeBlock decodes the padding as zeros.
  for (std::size_t end = text.size(); end > text.size() - 2 && text[end - 1] == '='; --end) {
    bytes.pop_back();
  }
  return bytes;
}

std::string Sign(const std::vector<unsigned char>& key, const std::string& message) {
  std::array<unsigned char, 32> tag;
  const auto* input = reinterpret_cast<const unsigned char*>(message.data());
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), input, message.size(), tag.data(), nullptr);
  // Four characters for three bytes, and a NUL.
  std::array<unsigned char, 45> text;
  const int length = EVP_EncodeBlock(text.data(), tag.data(), static_cast<int>(tag.size()));
  return std::string(kVersion) + std::string(reinterpret_cast<const char*>(text.data()), length);
}

bool IsRecent(std::string_view timestamp, std::chrono::system_clock::time_point now) {
  std::int64_t seconds = 0;
  const auto [end, error] = std::from_chars(timestamp.data(), timestamp.data() + timestamp.size(), seconds);
  if (error != std::errc() || end != timestamp.data() + timestamp.size()) {
    return false;
  }
  const auto current = std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
  const auto tolerance = kWebhookTolerance.count();
  return current - tolerance <= seconds && seconds <= current + tolerance;
}

}  // namespace

bool VerifyWebhook(std::string_view secret, const WebhookHeader& header, std::string_view body,
                   std::chrono::system_clock::time_point now) {
  const auto key = Decode(secret.starts_with(kPrefix) ? secret.substr(kPrefix.size()) : secret);
  const auto id = header("webhook-id");
  const auto timestamp = header("webhook-timestamp");
  const auto signatures = header("webhook-signature");
  if (!key || !id || !timestamp || !signatures || !IsRecent(*timestamp, now)) {
    return false;
  }
  const std::string expected = Sign(*key, *id + "." + *timestamp + "." + std::string(body));
  std::string_view rest = *signatures;
  while (!rest.empty()) {
    const std::string_view signature = rest.substr(0, rest.find(' '));
    if (signature.size() == expected.size() &&
        CRYPTO_memcmp(signature.data(), expected.data(), expected.size()) == 0) {
      return true;
    }
    rest.remove_prefix(std::min(signature.size() + 1, rest.size()));
  }
  return false;
}

}  // namespace taskey
