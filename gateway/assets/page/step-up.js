// The dialog that asks for the password when a call requires a recent proof of it.
import { call, stepUp } from "./api.js";
import { fromTemplate, showDialog } from "./dom.js";
import { onSubmit } from "./form.js";

let open;

/** Concurrent calls share the dialog. */
stepUp.prove = () => (open ??= ask().finally(() => (open = undefined)));

/** Resolves to whether the user has entered the password. */
function ask() {
  const parts = fromTemplate("step-up-dialog");
  return new Promise((resolve) => {
    let isProved = false;
    onSubmit(parts.form, async ({ currentPassword }) => {
      await call("POST", "/v1/me:reauthenticate", { body: { currentPassword } });
      isProved = true;
      parts.root.close();
    });
    parts.root.addEventListener("close", () => resolve(isProved));
    showDialog(parts);
  });
}
