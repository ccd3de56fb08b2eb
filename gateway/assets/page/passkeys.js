// Passkeys: logging in with one, completing a login with one, and adding one to the account.
import { UserError, call } from "./api.js";
import { showRecoveryCodes } from "./dialogs.js";
import { element } from "./dom.js";
import { onSubmit } from "./form.js";
import { showToast } from "./notice.js";

const PATH = "/v1/me/factors";

/** Reports whether the browser has passkeys, which it has only in secure contexts (TLS or localhost). */
export const hasPasskeys = () => "parseCreationOptionsFromJSON" in (globalThis.PublicKeyCredential ?? {});

/** Logs in with a passkey instead of a password. Resolves to the user. */
export async function logInWithPasskey(sessionLabel) {
  const { options } = await call("POST", "/v1/auth/passkey:begin", { body: {} });
  const body = { response: await getPasskey(options), sessionLabel };
  return (await call("POST", "/v1/auth/passkey:finish?cookie=true", { body })).user;
}

/** Completes a login whose password was correct with a passkey. Resolves to the user. */
export async function completeWithPasskey({ token, passkeyOptions }) {
  const body = { challengeToken: token, passkeyResponse: await getPasskey(passkeyOptions) };
  return (await call("POST", "/v1/auth/login:complete?cookie=true", { body })).user;
}

/** Creates the part of a view in which a passkey is added. `onAdded` is called after that. */
export function passkeyForm(onAdded) {
  const form = element(
    "form", {},
    element("label", {}, "Name of the passkey ", element("span", { class: "muted" }, "(optional)"),
      element("input", { name: "label", maxlength: "100", autocomplete: "off" })),
    element("p", { class: "error", role: "alert" }),
    element("button", { class: "primary" }, "Add a passkey"),
  );
  onSubmit(form, async ({ label }) => {
    const { recoveryCodes } = await addPasskey(label);
    form.reset();
    await onAdded();
    if (recoveryCodes.length) showRecoveryCodes(recoveryCodes);
    else showToast("The passkey is added.");
  });
  const about = "A passkey is stored on your phone, in your computer, in a password manager or on a security key. With it, " +
    "you log in without a password.";
  return [element("h2", {}, "Add a passkey"), element("p", { class: "muted" }, about), form];
}

async function addPasskey(label) {
  const { options } = await call("POST", `${PATH}:beginPasskey`, { body: {} });
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(JSON.parse(options));
  const response = await ask(() => navigator.credentials.create({ publicKey }));
  return call("POST", `${PATH}:finishPasskey`, { body: { response, label } });
}

function getPasskey(options) {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(JSON.parse(options));
  return ask(() => navigator.credentials.get({ publicKey }));
}

/** Returns the response of the authenticator in JSON. */
async function ask(getCredential) {
  try {
    return JSON.stringify(await getCredential());
  } catch (error) {
    if (error.name === "InvalidStateError") throw new UserError("This device already has a passkey for your account.");
    // Browsers do not say whether the user has cancelled, or there is no passkey.
    if (error.name === "NotAllowedError") throw new UserError("No passkey was used.");
    throw error;
  }
}
