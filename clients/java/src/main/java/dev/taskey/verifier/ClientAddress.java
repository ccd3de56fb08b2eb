package dev.taskey.verifier;

import java.net.InetAddress;
import java.util.function.UnaryOperator;

/** Determines the address of a client, for personal access tokens that are limited to networks. */
@FunctionalInterface
public interface ClientAddress {
  /**
   * Returns the address of the client of a call, or null if it is unknown.
   *
   * @param peer the address of the peer, or null if it has none
   * @param header returns the first value of a header of the call, or null
   */
  InetAddress resolve(InetAddress peer, UnaryOperator<String> header);
}
