package dev.taskey.verifier;

import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.taskey.auth.v1.Jwk;
import dev.taskey.auth.v1.JwkSet;
import java.io.IOException;
import java.math.BigInteger;
import java.security.KeyPairGenerator;
import java.security.interfaces.EdECPublicKey;
import java.time.Instant;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Public keys from files and from the feed. */
class KeysTest {
  private static final BigInteger P = BigInteger.TWO.pow(255).subtract(BigInteger.valueOf(19));

  private static void receive(byte[] publicKey) throws IOException {
    String x = Base64.getUrlEncoder().withoutPadding().encodeToString(publicKey);
    String json =
        "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"1\",\"x\":\"" + x + "\"}]}";
    Keys.parse(json, Instant.EPOCH);
    var key =
        Jwk.newBuilder().setKty("OKP").setCrv("Ed25519").setKid("1").setUse("sig").setAlg("EdDSA");
    Keys.received(JwkSet.newBuilder().addKeys(key.setX(x)).build());
  }

  private static void assertRefused(byte[] publicKey) {
    String hex = HexFormat.of().formatHex(publicKey);
    assertThrows(IOException.class, () -> receive(publicKey), hex);
  }

  private static byte[] encode(BigInteger y, boolean isXOdd) {
    byte[] bigEndian = (isXOdd ? y.setBit(255) : y).toByteArray();
    byte[] encoded = new byte[32];
    for (int i = 0; i < Math.min(32, bigEndian.length); i++) {
      encoded[i] = bigEndian[bigEndian.length - 1 - i];
    }
    return encoded;
  }

  @Test
  void key_of_small_order_is_refused() {
    BigInteger eighth =
        new BigInteger("7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7", 16);
    for (BigInteger y :
        List.of(
            BigInteger.ONE,
            P.subtract(BigInteger.ONE),
            BigInteger.ZERO,
            eighth,
            P.subtract(eighth))) {
      assertRefused(encode(y, false));
      assertRefused(encode(y, true));
    }
  }

  @Test
  void only_keys_in_the_prime_order_subgroup_are_accepted() throws Exception {
    var generator = KeyPairGenerator.getInstance("Ed25519");
    for (int i = 0; i < 10; i++) {
      var point = ((EdECPublicKey) generator.generateKeyPair().getPublic()).getPoint();
      receive(encode(point.getY(), point.isXOdd()));
      // The sum with the point of order 2.
      assertRefused(encode(P.subtract(point.getY()), !point.isXOdd()));
    }
  }

  @Test
  void encoding_of_a_key_must_be_canonical_and_on_the_curve() {
    assertRefused(encode(P.add(BigInteger.valueOf(3)), false));
    assertRefused(encode(BigInteger.TWO, false));
    assertRefused(new byte[31]);
    assertRefused(new byte[33]);
  }
}
