// The second step of a login: a code of an authenticator app, or a recovery code.
import { call } from "./api.js";
import { FIELDS, showField } from "./code.js";
import { fromTemplate } from "./dom.js";
import { onSubmit } from "./form.js";

/**
 * Creates the form that completes a login with a challenge. `onLogin` is called with the user, and `onExpired` if the
 * login has to begin again.
 */
export function challengeForm({ token, methods }, onLogin, onExpired) {
  const parts = fromTemplate("challenge-form");
  const hasApp = methods.includes("METHOD_TOTP");
  showField(parts, [...(hasApp ? [FIELDS.totpCode] : []), FIELDS.recoveryCode]);
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
