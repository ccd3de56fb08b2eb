package dev.taskey.verifier;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RequestInfo;
import com.google.rpc.RetryInfo;
import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.io.IOException;
import java.net.InetAddress;
import java.nio.charset.StandardCharsets;
import java.util.List;

/** Authenticates the requests of the JDK's HTTP server by their access tokens. */
public final class AuthFilter extends Filter {
  /**
   * The attribute of an {@link HttpExchange} with the {@link AccessClaims} of the caller's token.
   */
  public static final String CALLER = "taskey.caller";

  private final Verifier verifier;
  private final String scope;

  /** Creates a filter that refuses the tokens that the verifier refuses, and all with scopes. */
  public AuthFilter(Verifier verifier) {
    this(verifier, "");
  }

  /** Creates a filter that also refuses tokens without a scope, such as {@code tasks.read}. */
  public AuthFilter(Verifier verifier, String scope) {
    this.verifier = verifier;
    this.scope = scope;
  }

  @Override
  public String description() {
    return "authenticates requests by their access tokens";
  }

  @Override
  public void doFilter(HttpExchange exchange, Chain chain) throws IOException {
    try {
      List<String> values = exchange.getRequestHeaders().getOrDefault("Authorization", List.of());
      String header = values.isEmpty() ? null : values.size() == 1 ? values.get(0) : "";
      InetAddress client =
          verifier.clientAddress(
              exchange.getRemoteAddress(), name -> exchange.getRequestHeaders().getFirst(name));
      AccessClaims claims = verifier.authenticate(header, client);
      Verifier.requireScope(claims, scope);
      exchange.setAttribute(CALLER, claims);
    } catch (StatusRuntimeException e) {
      String requestId = exchange.getRequestHeaders().getFirst("X-Request-Id");
      refuse(exchange, Errors.withRequestId(e, requestId));
      return;
    }
    chain.doFilter(exchange);
  }

  /** Sends the error in the format of Taskey's gateway. */
  private void refuse(HttpExchange exchange, StatusRuntimeException refusal) throws IOException {
    int code =
        switch (refusal.getStatus().getCode()) {
          case UNAUTHENTICATED -> 401;
          case PERMISSION_DENIED -> 403;
          case RESOURCE_EXHAUSTED -> 429;
          default -> 503;
        };
    JsonArray details = new JsonArray();
    for (Any detail : StatusProto.fromThrowable(refusal).getDetailsList()) {
      if (!detail.is(RetryInfo.class)) {
        details.add(json(detail));
      }
    }
    JsonObject error = new JsonObject();
    error.addProperty("code", code);
    error.addProperty("status", refusal.getStatus().getCode().name());
    error.addProperty("message", refusal.getStatus().getDescription());
    error.add("details", details);
    JsonObject body = new JsonObject();
    body.add("error", error);
    byte[] bytes = body.toString().getBytes(StandardCharsets.UTF_8);
    exchange.getResponseHeaders().set("Content-Type", "application/json");
    switch (code) {
      case 401 -> exchange.getResponseHeaders().set("WWW-Authenticate", "Bearer");
      case 403 ->
          exchange
              .getResponseHeaders()
              .set(
                  "WWW-Authenticate",
                  "Bearer error=\"insufficient_scope\", scope=\"" + scope + "\"");
      default -> exchange.getResponseHeaders().set("Retry-After", "1");
    }
    exchange.sendResponseHeaders(code, bytes.length);
    try (var output = exchange.getResponseBody()) {
      output.write(bytes);
    }
  }

  private static JsonObject json(Any detail) throws InvalidProtocolBufferException {
    JsonObject json = new JsonObject();
    json.addProperty("@type", detail.getTypeUrl());
    if (detail.is(ErrorInfo.class)) {
      ErrorInfo info = detail.unpack(ErrorInfo.class);
      json.addProperty("reason", info.getReason());
      json.addProperty("domain", info.getDomain());
      JsonObject metadata = new JsonObject();
      info.getMetadataMap().forEach(metadata::addProperty);
      json.add("metadata", metadata);
    } else {
      json.addProperty("requestId", detail.unpack(RequestInfo.class).getRequestId());
    }
    return json;
  }
}
