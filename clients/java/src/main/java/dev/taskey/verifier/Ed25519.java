package dev.taskey.verifier;

import java.math.BigInteger;

/**
 * A check of Ed25519 public keys that the libraries for signatures lack (RFC 8032, section 5.1).
 */
final class Ed25519 {
  private static final BigInteger ONE = BigInteger.ONE;
  private static final BigInteger TWO = BigInteger.TWO;
  private static final BigInteger P = TWO.pow(255).subtract(BigInteger.valueOf(19));
  private static final BigInteger D =
      BigInteger.valueOf(-121665).multiply(BigInteger.valueOf(121666).modInverse(P)).mod(P);
  private static final BigInteger ORDER =
      TWO.pow(252).add(new BigInteger("27742317777372353535851937790883648493"));

  private record Point(BigInteger x, BigInteger y) {
    static final Point IDENTITY = new Point(BigInteger.ZERO, ONE);

    Point add(Point other) {
      BigInteger product = D.multiply(x).multiply(other.x).multiply(y).multiply(other.y).mod(P);
      BigInteger sumX = x.multiply(other.y).add(other.x.multiply(y));
      BigInteger sumY = y.multiply(other.y).add(x.multiply(other.x));
      return new Point(
          sumX.multiply(ONE.add(product).modInverse(P)).mod(P),
          sumY.multiply(ONE.subtract(product).modInverse(P)).mod(P));
    }

    Point multiply(BigInteger factor) {
      Point result = IDENTITY;
      for (int bit = factor.bitLength() - 1; bit >= 0; bit--) {
        result = result.add(result);
        result = factor.testBit(bit) ? result.add(this) : result;
      }
      return result;
    }
  }

  private Ed25519() {}

  /**
   * Reports whether signatures of a key cannot be forged without its private half: the point must
   * be on the curve, canonically encoded, not of small order, and in the subgroup of prime order.
   */
  static boolean isValidPublicKey(byte[] encoded) {
    Point point = decompress(encoded);
    return point != null
        && !point.equals(Point.IDENTITY)
        && point.multiply(ORDER).equals(Point.IDENTITY);
  }

  /** Returns null if the point is not on the curve, or not canonically encoded. */
  private static Point decompress(byte[] encoded) {
    byte[] reversed = new byte[encoded.length];
    for (int i = 0; i < encoded.length; i++) {
      reversed[i] = encoded[encoded.length - 1 - i];
    }
    BigInteger number = new BigInteger(1, reversed);
    boolean isOdd = number.testBit(255);
    BigInteger y = number.clearBit(255);
    if (encoded.length != 32 || y.compareTo(P) >= 0) {
      return null;
    }
    BigInteger yy = y.multiply(y);
    BigInteger square = yy.subtract(ONE).multiply(D.multiply(yy).add(ONE).modInverse(P)).mod(P);
    BigInteger x = square.modPow(P.add(BigInteger.valueOf(3)).shiftRight(3), P);
    if (!x.multiply(x).mod(P).equals(square)) {
      x = x.multiply(TWO.modPow(P.shiftRight(2), P)).mod(P);
    }
    boolean isZeroWithSign = x.signum() == 0 && isOdd;
    if (!x.multiply(x).mod(P).equals(square) || isZeroWithSign) {
      return null;
    }
    return new Point(x.testBit(0) == isOdd ? x : P.subtract(x), y);
  }
}
