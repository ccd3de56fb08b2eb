// The email address in the account view: whether it is verified, and its change.
import { call } from "./api.js";
import { onPress, onSubmit } from "./form.js";
import { showToast } from "./notice.js";

/** Shows the email address of a user in the parts of the account view. */
export function showEmail(parts, user) {
  parts.email.value = user.email;
  parts.emailAddress.textContent = user.email;
  parts.emailState.textContent = user.emailVerified ? "confirmed" : "not confirmed";
  parts.verify.hidden = user.emailVerified;
}

/** Makes the button and the form send mails with links, which confirm the address or a new one. */
export function initEmailForm({ verify, emailForm }) {
  onPress(verify, async () => {
    await call("POST", "/v1/me/email:requestVerification", { body: {} });
    showToast("A mail with a link is on its way.");
  });
  onSubmit(emailForm, async ({ newEmail, currentPassword }) => {
    await call("POST", "/v1/me/email:change", { body: { newEmail, currentPassword } });
    emailForm.reset();
    showToast(`A mail with a link is on its way to ${newEmail}. The address changes when you use the link.`);
  });
}
