#pragma once

#include <grpcpp/support/status.h>

#include <chrono>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace taskey {

/// An invalid field of a request.
struct FieldViolation {
  /// The path of the field in the request, such as `task.title`.
  std::string field;
  std::string description;
};

/// A failed call.
class Error : public std::runtime_error {
 public:
  /// Reads the details of a status that is not OK.
  explicit Error(const grpc::Status& status);

  grpc::StatusCode code;
  /// The name of a `taskey.errors.v1.ErrorReason` without its prefix, or empty.
  std::string reason;
  /// Further values that belong to the reason.
  std::map<std::string, std::string> metadata;
  std::vector<FieldViolation> violations;
  /// After which delay a retry can succeed.
  std::optional<std::chrono::milliseconds> retry_after;
  /// The id under which the server logs the call, or empty.
  std::string request_id;
};

}  // namespace taskey
