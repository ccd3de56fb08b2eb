package dev.taskey.conformance;

import com.google.gson.JsonObject;

/** The operations of verifiers. */
final class VerifierOperations {
  JsonObject execute(String operation, JsonObject request) throws Exception {
    throw new IllegalArgumentException("unknown operation: " + operation);
  }
}
