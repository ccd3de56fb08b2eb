// Logging out other devices, changing the password and deleting the account.
import { logIn, openPage, runInBrowser, signUp, waitForLoginView, waitForText, PASSWORD } from "./support.mjs";

const NEW_PASSWORD = "another staple battery horse";

await runInBrowser(async () => {
  const [first, second, third] = [await openPage(), await openPage(), await openPage()];
  await signUp(first, "ann@example.com", "Ann");
  await logIn(second, "ann@example.com");
  await logIn(third, "ann@example.com");

  await first.getByRole("link", { name: "Ann" }).click();
  await first.locator(".entries li").nth(2).waitFor();
  await first.getByRole("button", { name: /^Log out Chrome/ }).first().click();
  await waitForLoginView(third);
  await first.getByRole("button", { name: "Log out all other devices" }).click();
  await waitForLoginView(second);

  const passwordForm = first.locator("form", { hasText: "Change password" });
  await passwordForm.getByLabel("Current password").fill("not the current password");
  await passwordForm.getByLabel("New password").fill(NEW_PASSWORD);
  await passwordForm.getByRole("button").click();
  await waitForText(first, "That is not your current password.");
  await passwordForm.getByLabel("Current password").fill(PASSWORD);
  await passwordForm.getByRole("button").click();
  await waitForText(first, "Password changed.");
  await logIn(second, "ann@example.com", NEW_PASSWORD);

  await first.getByRole("button", { name: "Log out", exact: true }).click();
  await waitForLoginView(first);
  await first.getByLabel("Email address").fill("ann@example.com");
  await first.getByLabel("Password").fill(PASSWORD);
  await first.getByRole("button", { name: "Log in", exact: true }).click();
  await waitForText(first, "The email address or the password is incorrect.");
  await logIn(first, "ann@example.com", NEW_PASSWORD);

  await first.getByRole("link", { name: "Ann" }).click();
  const deleteForm = first.locator("form", { hasText: "Delete account" });
  await deleteForm.getByLabel("Password").fill(NEW_PASSWORD);
  await deleteForm.getByLabel("I know that this cannot be undone").check();
  await deleteForm.getByRole("button").click();
  await waitForText(first, "Your account has been deleted.");
  await waitForLoginView(second);
});
