package dev.taskey.verifier;

import java.net.InetAddress;
import java.net.UnknownHostException;

/** A network of addresses, such as {@code 192.0.2.0/24}. */
record Network(InetAddress address, int length) {
  /**
   * Parses a network.
   *
   * @throws UnknownHostException if the text is not an address and the length of a prefix
   */
  static Network parse(String text) throws UnknownHostException {
    int slash = text.indexOf('/');
    // Names would be looked up.
    if (slash < 0 || !text.matches("[0-9a-fA-F.:]+/[0-9]{1,3}")) {
      throw new UnknownHostException("not a network: " + text);
    }
    InetAddress address = InetAddress.getByName(text.substring(0, slash));
    return new Network(address, Integer.parseInt(text.substring(slash + 1)));
  }

  /** Returns whether an address is in the network. IPv4-mapped addresses are IPv4 addresses. */
  boolean contains(InetAddress other) {
    byte[] own = address.getAddress();
    byte[] bytes = other.getAddress();
    if (own.length != bytes.length) {
      return false;
    }
    for (int bit = 0; bit < length; bit++) {
      if (((own[bit / 8] ^ bytes[bit / 8]) & (0x80 >> (bit % 8))) != 0) {
        return false;
      }
    }
    return true;
  }
}
