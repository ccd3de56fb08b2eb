package dev.taskey.verifier;

import com.google.gson.JsonParser;
import com.nimbusds.jose.JOSEException;
import com.nimbusds.jose.JOSEObjectType;
import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.JWSHeader;
import com.nimbusds.jose.JWSSigner;
import com.nimbusds.jose.JWSVerifier;
import com.nimbusds.jose.crypto.Ed25519Signer;
import com.nimbusds.jose.crypto.Ed25519Verifier;
import com.nimbusds.jose.crypto.MACSigner;
import com.nimbusds.jose.crypto.MACVerifier;
import com.nimbusds.jose.jwk.Curve;
import com.nimbusds.jose.jwk.JWK;
import com.nimbusds.jose.jwk.KeyUse;
import com.nimbusds.jose.jwk.OctetKeyPair;
import com.nimbusds.jose.jwk.OctetSequenceKey;
import com.nimbusds.jose.util.Base64URL;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.SignedJWT;
import dev.taskey.auth.v1.JwkSet;
import java.io.IOException;
import java.text.ParseException;
import java.time.Instant;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The keys of access tokens. The algorithm of each is fixed, so that a token cannot choose another.
 */
final class Keys {
  private static final int MIN_SECRET_BYTES = 32;

  /** A key with which tokens are verified. */
  record Key(JWK jwk, JWSAlgorithm algorithm, JWSVerifier verifier) {
    boolean verifies(byte[] message, String signature) {
      try {
        return verifier.verify(new JWSHeader(algorithm), message, new Base64URL(signature));
      } catch (JOSEException e) {
        return false;
      }
    }
  }

  private final Map<String, Key> byId = new LinkedHashMap<>();

  private Keys() {}

  /**
   * Parses a JWK Set (RFC 7517). Expired keys are left out. Errors do not quote the text, which may
   * be secret.
   */
  static Keys parse(String json, Instant now) throws IOException {
    Keys keys = new Keys();
    try {
      for (var element : JsonParser.parseString(json).getAsJsonObject().getAsJsonArray("keys")) {
        var exp = element.getAsJsonObject().get("exp");
        Key key = key(JWK.parse(element.toString()));
        if (exp == null || exp.getAsLong() > now.getEpochSecond()) {
          keys.add(key);
        }
      }
    } catch (RuntimeException | ParseException | JOSEException e) {
      throw new IOException("the JWK Set is not usable");
    }
    return keys.orThrowIfEmpty();
  }

  /** Creates the public keys from the feed of revocations. */
  static Keys received(JwkSet set) throws IOException {
    Keys keys = new Keys();
    try {
      for (var jwk : set.getKeysList()) {
        keys.add(
            key(
                new OctetKeyPair.Builder(Curve.parse(jwk.getCrv()), new Base64URL(jwk.getX()))
                    .keyID(jwk.getKid())
                    .keyUse(KeyUse.parse(jwk.getUse()))
                    .algorithm(JWSAlgorithm.parse(jwk.getAlg()))
                    .build()));
      }
    } catch (RuntimeException | ParseException | JOSEException e) {
      throw new IOException("the peer sent unusable public keys", e);
    }
    return keys.orThrowIfEmpty();
  }

  Key byId(String id) {
    return byId.get(id);
  }

  /** Signs claims with the first key. */
  String sign(JWTClaimsSet claims) throws JOSEException {
    Key key = byId.values().iterator().next();
    JWSSigner signer =
        key.jwk instanceof OctetSequenceKey secret
            ? new MACSigner(secret)
            : new Ed25519Signer((OctetKeyPair) key.jwk);
    var header =
        new JWSHeader.Builder(key.algorithm)
            .keyID(key.jwk.getKeyID())
            .type(new JOSEObjectType("at+jwt"));
    SignedJWT token = new SignedJWT(header.build(), claims);
    token.sign(signer);
    return token.serialize();
  }

  private void add(Key key) throws JOSEException {
    if (byId.put(key.jwk.getKeyID(), key) != null) {
      throw new JOSEException("two keys have the same kid");
    }
  }

  private Keys orThrowIfEmpty() throws IOException {
    if (byId.isEmpty()) {
      throw new IOException(
          "there is no key; tokens that are signed with a shared secret need a key file");
    }
    return this;
  }

  private static Key key(JWK jwk) throws JOSEException {
    String id = jwk.getKeyID();
    boolean isForSignatures = jwk.getKeyUse() == null || jwk.getKeyUse().equals(KeyUse.SIGNATURE);
    if (id == null || id.isEmpty() || id.length() > 128 || !isForSignatures) {
      throw new JOSEException("kid or use is invalid");
    }
    if (jwk instanceof OctetSequenceKey secret && secret.toByteArray().length >= MIN_SECRET_BYTES) {
      return key(jwk, JWSAlgorithm.HS256, new MACVerifier(secret));
    } else if (jwk instanceof OctetKeyPair pair
        && pair.getCurve().equals(Curve.Ed25519)
        && Ed25519.isValidPublicKey(pair.getDecodedX())) {
      return key(jwk, JWSAlgorithm.EdDSA, new Ed25519Verifier(pair.toPublicJWK()));
    }
    throw new JOSEException(
        "only HS256 with at least 32 bytes, and Ed25519 with a safe point are supported");
  }

  private static Key key(JWK jwk, JWSAlgorithm algorithm, JWSVerifier verifier)
      throws JOSEException {
    if (jwk.getAlgorithm() != null && !jwk.getAlgorithm().equals(algorithm)) {
      throw new JOSEException("alg is invalid");
    }
    return new Key(jwk, algorithm, verifier);
  }
}
