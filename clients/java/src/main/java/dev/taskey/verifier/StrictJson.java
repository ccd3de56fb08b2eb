package dev.taskey.verifier;

import com.google.gson.Strictness;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import java.io.IOException;
import java.io.StringReader;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Parses the JSON objects of a token. JWT libraries accept more: duplicate members, and other
 * encodings.
 */
final class StrictJson {
  private static final Set<String> ACTOR = Set.of("sub", "sid", "act");

  private StrictJson() {}

  /** Decodes base64url without padding; each value has one encoding. */
  static byte[] decode(String text) throws IOException {
    try {
      byte[] bytes = Base64.getUrlDecoder().decode(text);
      if (Base64.getUrlEncoder().withoutPadding().encodeToString(bytes).equals(text)) {
        return bytes;
      }
    } catch (IllegalArgumentException e) {
      // Refused below.
    }
    throw new IOException("not base64url");
  }

  /**
   * Returns the members of an object: strings, lists of strings, integers as {@link Long}, and
   * objects with the members of the claim {@code act}. Of others than {@code names}, only the
   * syntax is checked, if {@code ignoresOthers}; else they are refused.
   */
  static Map<String, Object> parse(byte[] json, Set<String> names, boolean ignoresOthers)
      throws IOException {
    String text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(json)).toString();
    if (!text.startsWith("{")) {
      throw new IOException("not an object");
    }
    try (JsonReader reader = new JsonReader(new StringReader(text))) {
      reader.setStrictness(Strictness.STRICT);
      Map<String, Object> members = object(reader, names, ignoresOthers);
      if (reader.peek() != JsonToken.END_DOCUMENT) {
        throw new IOException("text follows the object");
      }
      return members;
    }
  }

  private static Map<String, Object> object(
      JsonReader reader, Set<String> names, boolean ignoresOthers) throws IOException {
    Map<String, Object> members = new HashMap<>();
    reader.beginObject();
    while (reader.hasNext()) {
      String name = reader.nextName();
      if (names.contains(name)) {
        if (members.put(name, value(reader)) != null) {
          throw new IOException("a member is duplicated");
        }
      } else if (ignoresOthers) {
        reader.skipValue();
      } else {
        throw new IOException("a member is unknown");
      }
    }
    reader.endObject();
    return members;
  }

  private static Object value(JsonReader reader) throws IOException {
    return switch (reader.peek()) {
      case STRING -> reader.nextString();
      case NUMBER -> integer(reader.nextString());
      case BEGIN_ARRAY -> strings(reader);
      // The maximum length of tokens limits the nesting.
      case BEGIN_OBJECT -> object(reader, ACTOR, true);
      default -> throw new IOException("a member has another type");
    };
  }

  private static Long integer(String literal) throws IOException {
    if (!literal.matches("-?(0|[1-9][0-9]{0,18})")) {
      throw new IOException("not an integer");
    }
    try {
      return Long.valueOf(literal);
    } catch (NumberFormatException e) {
      throw new IOException(e);
    }
  }

  private static List<String> strings(JsonReader reader) throws IOException {
    List<String> strings = new ArrayList<>();
    reader.beginArray();
    while (reader.hasNext()) {
      if (reader.peek() != JsonToken.STRING) {
        throw new IOException("an element is not a string");
      }
      strings.add(reader.nextString());
    }
    reader.endArray();
    return List.copyOf(strings);
  }
}
