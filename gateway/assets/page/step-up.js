// The dialog that asks for the password or a code when a call requires a recent proof of the user's identity.
import { call, stepUp } from "./api.js";
import { FIELDS, showField } from "./code.js";
import { fromTemplate, showDialog } from "./dom.js";
import { onSubmit } from "./form.js";

let open;

/** Concurrent calls share the dialog. */
stepUp.prove = () => (open ??= ask().finally(() => (open = undefined)));

/** Resolves to whether the user has entered the password or a code. */
function ask() {
  const parts = fromTemplate("step-up-dialog");
  return new Promise((resolve) => {
    let isProved = false;
    showField(parts, [FIELDS.currentPassword, FIELDS.totpCode, FIELDS.recoveryCode]);
    onSubmit(parts.form, async (body) => {
      await call("POST", "/v1/me:reauthenticate", { body });
      isProved = true;
      parts.root.close();
    });
    parts.root.addEventListener("close", () => resolve(isProved));
    showDialog(parts);
  });
}
