// A change of credentials some time after the login asks for the password, and then continues.
import { setTimeout } from "node:timers/promises";
import { openAccount, openPage, runInBrowser, signUp, waitForText, PASSWORD } from "./support.mjs";

await runInBrowser(async () => {
  const page = await openPage();
  await signUp(page, "ann@example.com", "Ann");
  await openAccount(page, "Ann", "Access tokens");
  await page.getByLabel("Label").fill("Backup script");
  await page.getByLabel("tasks.read").check();
  // The test sets --step-up-max-age to 5 seconds.
  await setTimeout(6000);
  const dialog = page.getByRole("dialog");
  await page.getByRole("button", { name: "Create token" }).click();
  await dialog.getByRole("button", { name: "Cancel" }).click();
  await waitForText(page, "Not done, because this requires your password.");
  await page.getByRole("button", { name: "Create token" }).click();
  await dialog.getByLabel("Password").fill("not the current password");
  await dialog.getByRole("button", { name: "Continue" }).click();
  await waitForText(page, "That is not your current password.");
  await dialog.getByLabel("Password").fill(PASSWORD);
  await dialog.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("heading", { name: "The new token “Backup script”" }).waitFor();
});
