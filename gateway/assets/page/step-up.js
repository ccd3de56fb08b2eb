// The dialog that asks for the password, a code or a passkey when a call requires a recent proof of the user's identity.
import { call, stepUp } from "./api.js";
import { FIELDS, showField } from "./code.js";
import { fromTemplate, showDialog } from "./dom.js";
import { onPress, onSubmit } from "./form.js";
import { canReauthenticateWithPasskey, reauthenticateWithPasskey } from "./passkeys.js";

let open;

/** Concurrent calls share the dialog. */
stepUp.prove = () => (open ??= ask().finally(() => (open = undefined)));

/** Resolves to whether the user has entered the password or a code, or used a passkey. */
function ask() {
  const parts = fromTemplate("step-up-dialog");
  return new Promise((resolve) => {
    let isProved = false;
    const finish = () => {
      isProved = true;
      parts.root.close();
    };
    showField(parts, [FIELDS.currentPassword, FIELDS.totpCode, FIELDS.recoveryCode]);
    onSubmit(parts.form, async (body) => {
      await call("POST", "/v1/me:reauthenticate", { body });
      finish();
    });
    const showError = (text) => (parts.error.textContent = text);
    onPress(parts.passkeyButton, () => reauthenticateWithPasskey().then(finish), showError);
    canReauthenticateWithPasskey().then((canUse) => (parts.passkey.hidden = !canUse));
    parts.root.addEventListener("close", () => resolve(isProved));
    showDialog(parts);
  });
}
