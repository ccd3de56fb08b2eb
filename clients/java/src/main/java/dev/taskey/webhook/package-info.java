/** Verifies the messages of webhooks. */
package dev.taskey.webhook;
