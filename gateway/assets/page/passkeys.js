// Passkeys: logging in with one, completing a login with one, proving the identity again, and adding one to the account.
import { UserError, call } from "./api.js";
import { showRecoveryCodes } from "./dialogs.js";
import { element } from "./dom.js";
import { onSubmit } from "./form.js";
import { showToast } from "./notice.js";

const PATH = "/v1/me/factors";
/** How long an offer lasts: less than the 5 minutes for which a challenge is valid. Browsers ignore its `timeout`. */
const OFFER_MS = 240_000;

/** Ends the offer of passkeys in the login form. Browsers permit one request for a passkey at a time. */
let offer = new AbortController();

/** Reports whether the browser has passkeys, which it has only in secure contexts (TLS or localhost). */
export const hasPasskeys = () => "parseCreationOptionsFromJSON" in (globalThis.PublicKeyCredential ?? {});

/** Logs in with a passkey instead of a password. Resolves to the user. */
export async function logInWithPasskey(sessionLabel) {
  return finishLogin(await getPasskey(await loginOptions()), sessionLabel);
}

/**
 * Offers passkeys where the browser fills in the email address, until `stopOffer` is called. Resolves to the user who has
 * selected one, or to `undefined` if none was selected, or the browser or the server offers none.
 */
export async function logInWithOfferedPasskey(sessionLabel) {
  stopOffer();
  const { signal } = (offer = new AbortController());
  const response = await offeredPasskey(signal);
  return response && finishLogin(response, sessionLabel);
}

/** Stops offering passkeys. */
export const stopOffer = () => offer.abort();

async function offeredPasskey(signal) {
  if (!hasPasskeys() || !(await PublicKeyCredential.isConditionalMediationAvailable?.())) return undefined;
  while (!signal.aborted) {
    const expiry = AbortSignal.timeout(OFFER_MS);
    try {
      const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(JSON.parse(await loginOptions()));
      const request = { publicKey, mediation: "conditional", signal: AbortSignal.any([signal, expiry]) };
      return JSON.stringify(await navigator.credentials.get(request));
    } catch {
      // The user has not asked for a passkey, so errors are not shown.
      if (!expiry.aborted) return undefined;
    }
  }
  return undefined;
}

async function loginOptions() {
  return (await call("POST", "/v1/auth/passkey:begin", { body: {} })).options;
}

async function finishLogin(response, sessionLabel) {
  return (await call("POST", "/v1/auth/passkey:finish?cookie=true", { body: { response, sessionLabel } })).user;
}

/** Completes a login whose password was correct with a passkey. Resolves to the user. */
export async function completeWithPasskey({ token, passkeyOptions }) {
  const body = { challengeToken: token, passkeyResponse: await getPasskey(passkeyOptions) };
  return (await call("POST", "/v1/auth/login:complete?cookie=true", { body })).user;
}

/** Reports whether the user has passkeys with which to prove their identity again. */
export async function canReauthenticateWithPasskey() {
  return hasPasskeys() && reauthenticationOptions().then(() => true, () => false);
}

/** Proves the identity of the user again with a passkey. */
export async function reauthenticateWithPasskey() {
  const body = { passkeyResponse: await getPasskey(await reauthenticationOptions()) };
  await call("POST", "/v1/me:reauthenticate", { body });
}

async function reauthenticationOptions() {
  return (await call("POST", "/v1/me:beginPasskeyReauthentication", { body: {} })).options;
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
  stopOffer();
  try {
    return JSON.stringify(await getCredential());
  } catch (error) {
    if (error.name === "InvalidStateError") throw new UserError("This device already has a passkey for your account.");
    // Browsers do not say whether the user has cancelled, or there is no passkey.
    if (error.name === "NotAllowedError") throw new UserError("No passkey was used.");
    throw error;
  }
}
