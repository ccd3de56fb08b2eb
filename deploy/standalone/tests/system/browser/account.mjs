// Another device is logged out; the password is changed; the account is deleted.
import { inBrowser, logIn, loggedOut, open, read, signUp, PASSWORD } from "./support.mjs";

const NEW_PASSWORD = "another staple battery horse";

await inBrowser(async () => {
  const [one, other, third] = [await open(), await open(), await open()];
  await signUp(one, "ann@example.com", "Ann");
  await logIn(other, "ann@example.com");
  await logIn(third, "ann@example.com");

  await one.getByRole("link", { name: "Ann" }).click();
  await one.locator(".sessions li").nth(2).waitFor();
  await one.getByRole("button", { name: /^Log out Chrome/ }).first().click();
  await loggedOut(third);
  await one.getByRole("button", { name: "Log out all others" }).click();
  await loggedOut(other);

  const change = one.locator("form", { hasText: "Change password" });
  await change.getByLabel("Current password").fill("not the right password");
  await change.getByLabel("New password").fill(NEW_PASSWORD);
  await change.getByRole("button").click();
  await read(one, "That is not your current password.");
  await change.getByLabel("Current password").fill(PASSWORD);
  await change.getByRole("button").click();
  await read(one, "The password is changed");
  await logIn(other, "ann@example.com", NEW_PASSWORD);

  await one.getByRole("button", { name: "Log out", exact: true }).click();
  await loggedOut(one);
  await one.getByLabel("E-mail address").fill("ann@example.com");
  await one.getByLabel("Password").fill(PASSWORD);
  await one.getByRole("button", { name: "Log in", exact: true }).click();
  await read(one, "The address or the password is not right.");
  await logIn(one, "ann@example.com", NEW_PASSWORD);

  await one.getByRole("link", { name: "Ann" }).click();
  const end = one.locator("form", { hasText: "Delete account" });
  await end.getByLabel("Password").fill(NEW_PASSWORD);
  await end.getByLabel("I know that this cannot be undone").check();
  await end.getByRole("button").click();
  await read(one, "Your account has been deleted.");
  await loggedOut(other);
});
