/**
 * A client of Taskey: one channel for all generated stubs, with credentials, retries and typed
 * errors.
 *
 * <p>Start with {@link dev.taskey.client.TaskeyClient}.
 */
package dev.taskey.client;
