// The adapter of the conformance suite; its protocol is in clients/conformance/README.md.

#include <google/protobuf/dynamic_message.h>
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <unistd.h>

#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>

#include "taskey/client.h"

namespace {

using google::protobuf::Message;
using google::protobuf::Struct;
using google::protobuf::Value;
using taskey::task::v1::ListTasksRequest;
using taskey::task::v1::ListTasksResponse;
using taskey::task::v1::TaskService;
namespace json = google::protobuf::util;

/// The operation is not supported by this language.
struct Unsupported : std::runtime_error {
  using std::runtime_error::runtime_error;
};

Value ToValue(const Message& message) {
  std::string text;
  Value value;
  if (!json::MessageToJsonString(message, &text).ok() ||
      !json::JsonStringToMessage(text, &value).ok()) {
    throw std::runtime_error("cannot convert a message to JSON");
  }
  return value;
}

Value ToValue(std::string text) {
  Value value;
  value.set_string_value(std::move(text));
  return value;
}

const char* CodeName(grpc::StatusCode code) {
  static const char* const names[] = {"OK",
                                      "CANCELLED",
                                      "UNKNOWN",
                                      "INVALID_ARGUMENT",
                                      "DEADLINE_EXCEEDED",
                                      "NOT_FOUND",
                                      "ALREADY_EXISTS",
                                      "PERMISSION_DENIED",
                                      "RESOURCE_EXHAUSTED",
                                      "FAILED_PRECONDITION",
                                      "ABORTED",
                                      "OUT_OF_RANGE",
                                      "UNIMPLEMENTED",
                                      "INTERNAL",
                                      "UNAVAILABLE",
                                      "DATA_LOSS",
                                      "UNAUTHENTICATED"};
  return names[code];
}

Struct ToStruct(const char* code, const std::string& reason, const std::string& message) {
  Struct error;
  auto& fields = *error.mutable_fields();
  fields["code"] = ToValue(code);
  fields["reason"] = ToValue(reason);
  fields["message"] = ToValue(message);
  fields["metadata"].mutable_struct_value();
  fields["violations"].mutable_list_value();
  fields["retry_after_ms"].set_null_value(google::protobuf::NULL_VALUE);
  fields["request_id"] = ToValue("");
  return error;
}

Struct ToStruct(const taskey::Error& failure) {
  Struct error = ToStruct(CodeName(failure.code), failure.reason, failure.what());
  auto& fields = *error.mutable_fields();
  for (const auto& [name, value] : failure.metadata) {
    (*fields["metadata"].mutable_struct_value()->mutable_fields())[name] = ToValue(value);
  }
  for (const auto& violation : failure.violations) {
    auto& entry = *fields["violations"]
                       .mutable_list_value()
                       ->add_values()
                       ->mutable_struct_value()
                       ->mutable_fields();
    entry["field"] = ToValue(violation.field);
    entry["description"] = ToValue(violation.description);
  }
  if (failure.retry_after) {
    fields["retry_after_ms"].set_number_value(static_cast<double>(failure.retry_after->count()));
  }
  fields["request_id"] = ToValue(failure.request_id);
  return error;
}

/// Objects by their names.
template <class T>
class Registry {
 public:
  void Put(const std::string& name, std::shared_ptr<T> object) {
    std::lock_guard lock(mutex_);
    objects_[name] = std::move(object);
  }
  std::shared_ptr<T> Get(const std::string& name) {
    std::lock_guard lock(mutex_);
    return objects_.at(name);
  }
  std::shared_ptr<T> Remove(const std::string& name) {
    std::lock_guard lock(mutex_);
    auto node = objects_.extract(name);
    return node ? node.mapped() : nullptr;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<T>> objects_;
};

class Adapter {
 public:
  void Run() {
    for (std::string line; std::getline(std::cin, line);) {
      Struct request;
      if (!json::JsonStringToMessage(line, &request).ok()) {
        std::cerr << "not a JSON object: " << line << '\n';
        continue;
      }
      // Registered before the next request is read, which may cancel this one.
      auto stop = std::make_shared<std::stop_source>();
      running_.Put(Id(request.fields().at("id")), stop);
      std::thread([this, request, stop] { Handle(request, stop->get_token()); }).detach();
    }
  }

 private:
  static std::string Id(const Value& id) { return id.SerializeAsString(); }

  void Handle(const Struct& request, const std::stop_token& stop) {
    Struct answer;
    auto& fields = *answer.mutable_fields();
    fields["id"] = request.fields().at("id");
    try {
      Struct result = Execute(request, stop);
      *fields["ok"].mutable_struct_value() = result;
    } catch (const taskey::Error& error) {
      *fields["error"].mutable_struct_value() = ToStruct(error);
    } catch (const Unsupported& error) {
      *fields["error"].mutable_struct_value() = ToStruct("UNSUPPORTED", "", error.what());
    } catch (const std::exception& error) {
      *fields["error"].mutable_struct_value() = ToStruct("UNKNOWN", "", error.what());
    }
    running_.Remove(Id(request.fields().at("id")));
    std::string text;
    (void)json::MessageToJsonString(answer, &text);
    std::lock_guard lock(output_);
    std::cout << text << std::endl;
  }

  Struct Execute(const Struct& request, const std::stop_token& stop) {
    const auto& in = request.fields();
    auto text = [&](const char* name) {
      return in.contains(name) ? in.at(name).string_value() : std::string();
    };
    const std::string operation = text("op");
    Struct result;
    auto& out = *result.mutable_fields();
    if (operation == "open") {
      clients_.Put(text("client"), std::make_shared<taskey::Client>(taskey::ClientOptions{
                                       .address = text("address"),
                                       .plaintext = !in.at("tls").bool_value(),
                                       .ca_file = text("ca_file"),
                                       .cert_file = text("cert_file"),
                                       .key_file = text("key_file"),
                                       .email = text("email"),
                                       .password = text("password"),
                                       .access_token = text("access_token"),
                                   }));
    } else if (operation == "call") {
      taskey::CallOptions options{.timeout = {}, .stop = stop};
      if (in.contains("timeout_ms")) {
        options.timeout = std::chrono::milliseconds(
            static_cast<std::int64_t>(in.at("timeout_ms").number_value()));
      }
      auto [message, response] = Messages(text("method"), in.at("request"));
      clients_.Get(text("client"))->Call(*message, response.get(), options);
      out["response"] = ToValue(*response);
    } else if (operation == "list") {
      auto [message, response] = Messages(text("method"), in.at("request"));
      out["items"] = List(*clients_.Get(text("client")), *message);
    } else if (operation == "watch") {
      auto client = clients_.Get(text("client"));
      watches_.Put(text("watch"), std::make_shared<taskey::TaskWatch>(*client, text("sync_token")));
    } else if (operation == "next") {
      taskey::TaskWatch::Event event = watches_.Get(text("watch"))->Next();
      auto& changes = *out["changes"].mutable_list_value();
      for (const auto& change : event.changes) {
        *changes.add_values() = ToValue(change);
      }
      auto& list_changes = *out["list_changes"].mutable_list_value();
      for (const auto& change : event.list_changes) {
        *list_changes.add_values() = ToValue(change);
      }
      out["reset"].set_bool_value(event.reset);
      out["sync_token"] = ToValue(event.sync_token);
      out["checkpoint"].set_bool_value(event.checkpoint);
    } else if (operation == "stop") {
      watches_.Remove(text("watch"))->Stop();
    } else if (operation == "cancel") {
      if (auto other = running_.Remove(Id(in.at("request")))) {
        other->request_stop();
      }
    } else if (operation == "token") {
      out["access_token"] =
          ToValue(clients_.Get(text("client"))->AccessToken({.timeout = {}, .stop = stop}));
    } else if (operation == "logout") {
      clients_.Get(text("client"))->Logout();
    } else if (operation == "close") {
      clients_.Remove(text("client"));
    } else {
      throw Unsupported("this client has no operation " + operation);
    }
    return result;
  }

  /// The scenarios have lists of tasks only.
  static Value List(taskey::Client& client, const Message& message) {
    ListTasksRequest request;
    request.CopyFrom(message);
    Value items;
    items.mutable_list_value();
    for (const auto& task :
         client.List(&TaskService::Stub::ListTasks, request, &ListTasksResponse::tasks)) {
      *items.mutable_list_value()->add_values() = ToValue(task);
    }
    return items;
  }

  /// Returns the request and an empty response of a method such as `…TaskService/GetTask`.
  static std::pair<std::unique_ptr<Message>, std::unique_ptr<Message>> Messages(
      std::string method, const Value& request) {
    method[method.find('/')] = '.';
    const auto* descriptor =
        google::protobuf::DescriptorPool::generated_pool()->FindMethodByName(method);
    if (descriptor == nullptr) {
      throw std::invalid_argument("unknown method: " + method);
    }
    auto* factory = google::protobuf::MessageFactory::generated_factory();
    std::unique_ptr<Message> message(factory->GetPrototype(descriptor->input_type())->New());
    std::unique_ptr<Message> response(factory->GetPrototype(descriptor->output_type())->New());
    std::string text;
    (void)json::MessageToJsonString(request, &text);
    auto status = json::JsonStringToMessage(text, message.get());
    if (!status.ok()) {
      throw std::invalid_argument(std::string(status.message()));
    }
    return {std::move(message), std::move(response)};
  }

  Registry<std::stop_source> running_;
  Registry<taskey::Client> clients_;
  Registry<taskey::TaskWatch> watches_;
  std::mutex output_;
};

}  // namespace

int main() {
  Adapter adapter;
  adapter.Run();
  // Requests may still be in progress.
  _exit(0);
}
