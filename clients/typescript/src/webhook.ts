/** Verifies the messages of webhooks, which are signed according to Standard Webhooks. For Node. */

import { createHmac, timingSafeEqual } from "node:crypto";

/** How far the timestamp of a message may differ from the clock of the receiver, in seconds. */
export const TOLERANCE = 300;

/** A message was not signed with this secret, or not recently. */
export class InvalidSignatureError extends Error {
  override name = "InvalidSignatureError";
}

/**
 * Checks the signature and the timestamp of a message. `secret` is the one that `CreateWebhook` or `RotateWebhookSecret`
 * has returned, `headers` has names in lower case, as those of Node, and `body` is the body as it was received. `now`
 * replaces the clock, in milliseconds. A message can arrive more than once: ignore those with a `webhook-id` that was
 * processed before.
 *
 * @throws InvalidSignatureError
 */
export function verifyWebhook(
  secret: string,
  headers: Readonly<Record<string, string | string[] | undefined>>,
  body: string | Uint8Array,
  now: number = Date.now(),
): void {
  const header = (name: string): string => {
    const value = headers[name];
    return typeof value === "string" ? value : "";
  };
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  const [id, timestamp] = [header("webhook-id"), header("webhook-timestamp")];
  if (id === "" || !/^\d+$/.test(timestamp)) {
    throw new InvalidSignatureError("a header is missing or invalid");
  }
  if (Math.abs(now / 1000 - Number(timestamp)) > TOLERANCE) {
    throw new InvalidSignatureError("the timestamp is too old or in the future");
  }
  const tag = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64");
  const expected = Buffer.from(`v1,${tag}`);
  const isValid = (signature: string): boolean => {
    const bytes = Buffer.from(signature);
    return bytes.length === expected.length && timingSafeEqual(bytes, expected);
  };
  if (!header("webhook-signature").split(" ").some(isValid)) {
    throw new InvalidSignatureError("no signature is valid");
  }
}
