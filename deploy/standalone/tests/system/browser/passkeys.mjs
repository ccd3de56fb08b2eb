// Adding a passkey, and logging in with it, with a virtual authenticator.
import {
  entry, openAccount, openPage, runInBrowser, signUp, takeScreenshot, waitForLoginView, waitForTaskView, waitForText, PASSWORD,
} from "./support.mjs";

const EMAIL = "ann@example.com";

/** Adds an authenticator to the browser of a page. It verifies its user, and confirms everything. */
async function addAuthenticator(page) {
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
    /** Replaces a passkey by a copy with another signature counter. */
    async setCounter(passkey, signCount) {
      await devtools.send("WebAuthn.removeCredential", { authenticatorId, credentialId: passkey.credentialId });
      await devtools.send("WebAuthn.addCredential", { authenticatorId, credential: { ...passkey, signCount } });
    },
  };
}

await runInBrowser(async () => {
  const page = await openPage();
  const authenticator = await addAuthenticator(page);
  await signUp(page, EMAIL, "Ann");
  await openAccount(page, "Ann", "Two-factor login");
  await page.getByLabel("Name of the passkey").fill("Laptop");
  await page.getByRole("button", { name: "Add a passkey" }).click();
  await page.getByRole("heading", { name: "Your recovery codes" }).waitFor();
  await page.getByRole("button", { name: "I have stored them" }).click();
  await entry(page, "Laptop").waitFor();
  await takeScreenshot(page, "passkeys");
  const [passkey] = await authenticator.passkeys();
  if (!passkey.isResidentCredential || passkey.rpId !== "localhost") throw new Error(JSON.stringify(passkey));
  // The browser is told which passkeys exist.
  await page.getByRole("button", { name: "Add a passkey" }).click();
  await waitForText(page, "This device already has a passkey for your account.");

  // Instead of the password.
  await logOut(page);
  await takeScreenshot(page, "passkey-login");
  await page.getByRole("button", { name: "Log in with a passkey" }).click();
  await waitForTaskView(page);

  // After the password.
  await logOut(page);
  await page.getByLabel("Email address").fill(EMAIL);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Log in", exact: true }).click();
  await page.getByRole("button", { name: "Use a passkey" }).click();
  await waitForTaskView(page);

  // A copy of the passkey, whose counter is behind.
  await logOut(page);
  await authenticator.setCounter((await authenticator.passkeys())[0], 0);
  await page.getByRole("button", { name: "Log in with a passkey" }).click();
  await waitForText(page, "The signature counter went back, so the passkey may have been copied.");
});

async function logOut(page) {
  await page.getByRole("button", { name: "Log out", exact: true }).click();
  await waitForLoginView(page);
}
