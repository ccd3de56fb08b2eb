// Adding a passkey, and logging in with it, with a virtual authenticator.
import { addAuthenticator, addPasskey } from "./authenticator.mjs";
import {
  openAccount, openPage, runInBrowser, signUp, takeScreenshot, waitForLoginView, waitForTaskView, waitForText, PASSWORD,
} from "./support.mjs";

const EMAIL = "ann@example.com";

await runInBrowser(async () => {
  const page = await openPage();
  // The authenticator would accept the offer in the login form at once.
  await page.context().addInitScript(() => (PublicKeyCredential.isConditionalMediationAvailable = async () => false));
  await page.reload();
  const authenticator = await addAuthenticator(page);
  await signUp(page, EMAIL, "Ann");
  await openAccount(page, "Ann", "Two-factor login");
  await addPasskey(page, "Laptop");
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
