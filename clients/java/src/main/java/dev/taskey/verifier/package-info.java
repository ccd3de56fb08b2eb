/**
 * Verifies the access tokens of Taskey without a call for each token, and refuses revoked ones
 * within a second.
 *
 * <p>Start with {@link dev.taskey.verifier.Verifier}. Needs the optional dependencies {@code
 * nimbus-jose-jwt} and {@code tink}.
 */
package dev.taskey.verifier;
