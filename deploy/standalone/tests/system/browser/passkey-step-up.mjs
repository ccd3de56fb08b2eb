// A change of credentials some time after the login can be confirmed with a passkey, if the user has one.
import { setTimeout } from "node:timers/promises";
import { addAuthenticator, addPasskey } from "./authenticator.mjs";
import { entry, openAccount, openPage, runInBrowser, signUp, takeScreenshot, waitForText, PASSWORD } from "./support.mjs";

/** The test sets --step-up-max-age to 5 seconds. */
const MAX_AGE_MS = 5000;
const PATH = "/v1/me:beginPasskeyReauthentication";

await runInBrowser(async () => {
  const page = await openPage();
  const authenticator = await addAuthenticator(page);
  const dialog = page.getByRole("dialog");
  const usePasskey = dialog.getByRole("button", { name: "Use a passkey" });
  await signUp(page, "ann@example.com", "Ann");
  await openAccount(page, "Ann", "Access tokens");
  await page.getByLabel("Label").fill("Backup script");
  await page.getByLabel("tasks.read").check();
  await setTimeout(MAX_AGE_MS + 1000);
  const asked = page.waitForResponse((response) => response.url().endsWith(PATH));
  await page.getByRole("button", { name: "Create token" }).click();
  const status = (await asked).status();
  await dialog.getByLabel("Password").fill(PASSWORD);
  if (status !== 404 || (await usePasskey.isVisible())) throw new Error(`a passkey is offered: ${status}`);
  await dialog.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("heading", { name: "The new token “Backup script”" }).waitFor();
  await dialog.getByRole("button", { name: "Done" }).click();

  await openAccount(page, "Ann", "Two-factor login");
  await addPasskey(page, "Laptop");
  await setTimeout(MAX_AGE_MS + 1000);
  await entry(page, "Laptop").getByRole("button", { name: /^Rename/ }).click();
  await dialog.getByLabel("Name").fill("Phone");
  await dialog.getByRole("button", { name: "Save" }).click();
  await usePasskey.waitFor();
  await takeScreenshot(page, "step-up");
  const [passkey] = await authenticator.passkeys();
  await authenticator.setCounter(passkey, 0);
  await usePasskey.click();
  await waitForText(page, "The signature counter went back, so the passkey may have been copied.");
  await authenticator.setCounter(passkey, passkey.signCount + 100);
  await usePasskey.click();
  await entry(page, "Phone").waitFor();
});
