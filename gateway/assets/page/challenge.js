// The second step of a login: a code of an authenticator app, a recovery code, or a passkey.
import { call } from "./api.js";
import { FIELDS, showField } from "./code.js";
import { fromTemplate } from "./dom.js";
import { onPress, onSubmit } from "./form.js";
import { completeWithPasskey, hasPasskeys } from "./passkeys.js";

/**
 * Creates the form that completes a login with a challenge. `onLogin` is called with the user, and `onExpired` if the
 * login has to begin again.
 */
export function challengeForm({ token, methods, passkeyOptions }, onLogin, onExpired) {
  const parts = fromTemplate("challenge-form");
  const hasApp = methods.includes("METHOD_TOTP");
  showField(parts, [...(hasApp ? [FIELDS.totpCode] : []), FIELDS.recoveryCode]);
  parts.passkey.hidden = !passkeyOptions || !hasPasskeys();
  onPress(parts.passkeyButton, async () => onLogin(await completeWithPasskey({ token, passkeyOptions })));
  onSubmit(parts.root, async (code) => {
    try {
      const body = { ...code, challengeToken: token };
      onLogin((await call("POST", "/v1/auth/login:complete?cookie=true", { body })).user);
    } catch (error) {
      if (error.reason !== "CHALLENGE_INVALID") throw error;
      onExpired();
    }
  });
  return parts;
}
