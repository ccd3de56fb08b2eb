package dev.taskey.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import dev.taskey.auth.v1.AccountServiceGrpc;
import dev.taskey.auth.v1.AdminServiceGrpc;
import dev.taskey.auth.v1.AuthServiceGrpc;
import dev.taskey.auth.v1.PersonalAccessTokenServiceGrpc;
import dev.taskey.auth.v1.TokenServiceGrpc;
import dev.taskey.client.TaskWatch;
import dev.taskey.client.TaskeyClient;
import dev.taskey.task.v1.TaskListServiceGrpc;
import dev.taskey.task.v1.TaskServiceGrpc;
import io.grpc.CallOptions;
import io.grpc.MethodDescriptor;
import io.grpc.ServiceDescriptor;
import io.grpc.stub.ClientCalls;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;

/** The operations of clients. */
final class ClientOperations {
  private static final Map<String, MethodDescriptor<Message, Message>> METHODS = methods();

  private final Map<String, TaskeyClient> clients = new ConcurrentHashMap<>();
  private final Map<String, TaskWatch> watches = new ConcurrentHashMap<>();

  JsonObject execute(String operation, JsonObject request) throws Exception {
    JsonObject result = new JsonObject();
    switch (operation) {
      case "open" -> clients.put(text(request, "client"), open(request));
      case "call" -> result.add("response", json(call(request, message(request))));
      case "list" -> result.add("items", list(request));
      case "watch" ->
          watches.put(
              text(request, "watch"),
              client(request)
                  .watchTasks(request.has("sync_token") ? text(request, "sync_token") : ""));
      case "next" -> {
        TaskWatch.Event event = watches.get(text(request, "watch")).next();
        result.addProperty("reset", event.reset());
        result.add("changes", json(event.changes()));
        result.add("list_changes", json(event.listChanges()));
        result.addProperty("sync_token", event.syncToken());
        result.addProperty("checkpoint", event.checkpoint());
      }
      case "stop" -> watches.remove(text(request, "watch")).close();
      case "token" -> result.addProperty("access_token", client(request).accessToken().get());
      case "logout" -> client(request).logout();
      case "close" -> clients.remove(text(request, "client")).close();
      default -> throw new IllegalArgumentException("unknown operation: " + operation);
    }
    return result;
  }

  private TaskeyClient open(JsonObject request) throws Exception {
    TaskeyClient.Builder builder = TaskeyClient.builder(text(request, "address"));
    if (!request.get("tls").getAsBoolean()) {
      builder.plaintext();
    }
    if (request.has("ca_file")) {
      builder.trustCertificates(Path.of(text(request, "ca_file")));
    }
    if (request.has("cert_file")) {
      builder.clientCertificate(
          Path.of(text(request, "cert_file")), Path.of(text(request, "key_file")));
    }
    if (request.has("email")) {
      builder.password(text(request, "email"), text(request, "password"));
    } else if (request.has("access_token")) {
      builder.accessToken(text(request, "access_token"));
    }
    return builder.build();
  }

  private Message call(JsonObject request, Message message) {
    CallOptions options = CallOptions.DEFAULT;
    if (request.has("timeout_ms")) {
      options =
          options.withDeadlineAfter(request.get("timeout_ms").getAsLong(), TimeUnit.MILLISECONDS);
    }
    return ClientCalls.blockingUnaryCall(
        client(request).channel(), method(request), options, message);
  }

  @SuppressWarnings("unchecked")
  private JsonArray list(JsonObject request) throws Exception {
    var pages =
        client(request)
            .list(
                message(request),
                page -> call(request, page),
                page -> {
                  var field =
                      page.getDescriptorForType().getFields().stream()
                          .filter(one -> one.isRepeated())
                          .findFirst();
                  return (List<Message>) page.getField(field.orElseThrow());
                });
    return json((Iterable<Message>) pages::iterator);
  }

  private TaskeyClient client(JsonObject request) {
    return clients.get(text(request, "client"));
  }

  private static MethodDescriptor<Message, Message> method(JsonObject request) {
    return METHODS.get(text(request, "method"));
  }

  private static Message message(JsonObject request) throws Exception {
    var marshaller =
        (MethodDescriptor.PrototypeMarshaller<Message>) method(request).getRequestMarshaller();
    Message.Builder builder = marshaller.getMessagePrototype().toBuilder();
    JsonFormat.parser().merge(request.get("request").toString(), builder);
    return builder.build();
  }

  static JsonElement json(Message message) throws Exception {
    return JsonParser.parseString(JsonFormat.printer().print(message));
  }

  private static JsonArray json(Iterable<? extends Message> messages) throws Exception {
    JsonArray array = new JsonArray();
    for (Message message : messages) {
      array.add(json(message));
    }
    return array;
  }

  static String text(JsonObject request, String member) {
    return request.get(member).getAsString();
  }

  @SuppressWarnings("unchecked")
  private static Map<String, MethodDescriptor<Message, Message>> methods() {
    Map<String, MethodDescriptor<Message, Message>> methods = new HashMap<>();
    List<ServiceDescriptor> services =
        List.of(
            AuthServiceGrpc.getServiceDescriptor(),
            AccountServiceGrpc.getServiceDescriptor(),
            AdminServiceGrpc.getServiceDescriptor(),
            PersonalAccessTokenServiceGrpc.getServiceDescriptor(),
            TokenServiceGrpc.getServiceDescriptor(),
            TaskServiceGrpc.getServiceDescriptor(),
            TaskListServiceGrpc.getServiceDescriptor());
    for (ServiceDescriptor service : services) {
      for (MethodDescriptor<?, ?> method : service.getMethods()) {
        methods.put(method.getFullMethodName(), (MethodDescriptor<Message, Message>) method);
      }
    }
    return methods;
  }
}
