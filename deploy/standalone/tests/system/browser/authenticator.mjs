// A virtual authenticator, and the part of the page in which passkeys are added.
import { entry } from "./support.mjs";

/** Adds an authenticator to the browser of a page. It verifies its user, and confirms everything. */
export async function addAuthenticator(page) {
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("WebAuthn.enable");
  const options = {
    protocol: "ctap2",
    transport: "internal",
    hasResidentKey: true,
    hasUserVerification: true,
    isUserVerified: true,
    automaticPresenceSimulation: true,
  };
  const { authenticatorId } = await devtools.send("WebAuthn.addVirtualAuthenticator", { options });
  return {
    /** Returns the passkeys in the authenticator. */
    async passkeys() {
      return (await devtools.send("WebAuthn.getCredentials", { authenticatorId })).credentials;
    },
    /** Sets whether the user confirms everything. Otherwise requests wait. */
    async setUserPresent(enabled) {
      await devtools.send("WebAuthn.setAutomaticPresenceSimulation", { authenticatorId, enabled });
    },
    /** Replaces a passkey by a copy with another signature counter. */
    async setCounter(passkey, signCount) {
      await devtools.send("WebAuthn.removeCredential", { authenticatorId, credentialId: passkey.credentialId });
      await devtools.send("WebAuthn.addCredential", { authenticatorId, credential: { ...passkey, signCount } });
    },
  };
}

/** Adds the first passkey in the view of second factors, and closes the dialog with the recovery codes. */
export async function addPasskey(page, label) {
  await page.getByLabel("Name of the passkey").fill(label);
  await page.getByRole("button", { name: "Add a passkey" }).click();
  await page.getByRole("heading", { name: "Your recovery codes" }).waitFor();
  await page.getByRole("button", { name: "I have stored them" }).click();
  await entry(page, label).waitFor();
}
