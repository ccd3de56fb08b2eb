#include "taskey/error.h"

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace taskey {

Error::Error(const grpc::Status& status)
    : std::runtime_error(status.error_message()), code(status.error_code()) {
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) {
    return;
  }
  for (const google::protobuf::Any& detail : details.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad_request;
    google::rpc::RetryInfo retry;
    google::rpc::RequestInfo request;
    if (detail.UnpackTo(&info)) {
      reason = info.reason();
      metadata.insert(info.metadata().begin(), info.metadata().end());
    } else if (detail.UnpackTo(&bad_request)) {
      for (const auto& violation : bad_request.field_violations()) {
        violations.push_back({violation.field(), violation.description()});
      }
    } else if (detail.UnpackTo(&retry)) {
      retry_after = std::chrono::milliseconds(retry.retry_delay().seconds() * 1000 +
                                              retry.retry_delay().nanos() / 1'000'000);
    } else if (detail.UnpackTo(&request)) {
      request_id = request.request_id();
    }
  }
}

}  // namespace taskey
