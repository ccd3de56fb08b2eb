// Confirming and changing an address, and resetting a forgotten password, with links in mails. An SMTP server stores the mails
// as files in the folder MAILS.
import { readdirSync, readFileSync } from "node:fs";
import {
  logIn, openAccount, openPage, runInBrowser, signUp, takeScreenshot, waitFor, waitForLoginView, waitForTaskView,
  waitForText, PASSWORD,
} from "./support.mjs";

const { MAILS, TASKEY_URL } = process.env;
const EMAIL = "ann@example.com";
const NEW_PASSWORD = "another staple battery horse";

/** Returns the mails with this subject. */
function mailsAbout(subject) {
  const mails = readdirSync(MAILS).map((name) => readFileSync(`${MAILS}/${name}`, "utf8"));
  return mails.filter((text) => text.includes(`\r\nSubject: ${subject}\r\n`));
}

/** Returns the number of mails to an address in which it can be confirmed. */
function verificationCount(email) {
  return mailsAbout("Confirm your email address").filter((text) => text.includes(`\r\nTo: ${email}\r\n`)).length;
}

/** Waits for the mail with this subject, and returns its link. */
async function linkIn(subject) {
  await waitFor(`a mail ${subject}`, () => mailsAbout(subject).length);
  return mailsAbout(subject)[0].split("\r\n").find((line) => line.startsWith(`${TASKEY_URL}#`));
}

async function isVerified(page) {
  return page.evaluate(async () => (await (await fetch("v1/me")).json()).emailVerified);
}

await runInBrowser(async () => {
  const page = await openPage({ ignoreHTTPSErrors: true });
  await signUp(page, EMAIL);
  const verification = await linkIn("Confirm your email address");
  await page.goto(verification);
  await page.getByRole("heading", { name: "Confirm your email address" }).waitFor();
  await takeScreenshot(page, "verify-email");
  if (await isVerified(page)) throw new Error("opening the link has confirmed the address");
  await page.getByRole("button", { name: "Confirm your email address" }).click();
  await waitForText(page, "Your email address is confirmed.");
  if (!(await isVerified(page))) throw new Error("the address is not confirmed");
  if (page.url() !== TASKEY_URL) throw new Error(`the URL is ${page.url()}`);

  const other = await openPage({ ignoreHTTPSErrors: true });
  await waitForLoginView(other);
  await other.getByRole("link", { name: "Forgot your password?" }).click();
  await other.getByRole("heading", { name: "Reset your password" }).waitFor();
  await other.getByLabel("Email address").fill(EMAIL);
  await other.getByRole("button", { name: "Reset your password" }).click();
  await waitForText(other, "If the address has an account, a mail with a link is on its way.");
  await other.goto(await linkIn("Reset your password"));
  await other.getByLabel("New password").fill("too short");
  await other.getByRole("button", { name: "Choose a new password" }).click();
  await waitForText(other, "Must be at least 15 characters long.");
  await takeScreenshot(other, "reset-password");
  await other.getByLabel("New password").fill(NEW_PASSWORD);
  await other.getByRole("button", { name: "Choose a new password" }).click();
  await waitForText(other, "Your password has been changed, and all devices are logged out.");
  await logIn(other, EMAIL, NEW_PASSWORD);
  await waitForLoginView(page);

  // Used links explain themselves.
  await page.goto(verification);
  await page.getByRole("button", { name: "Confirm your email address" }).click();
  await waitForText(page, "This link was already used, or has expired. Request a new mail.");
  await changeAddress();
});

/** Requests another mail to confirm an address, then changes the address and restores it. */
async function changeAddress() {
  const page = await openPage({ ignoreHTTPSErrors: true });
  await signUp(page, "bob@example.com", "Bob");
  await openAccount(page, "Bob");
  await waitForText(page, "not confirmed");
  await waitFor("the mail after the sign-up", () => verificationCount("bob@example.com") === 1);
  await page.getByRole("button", { name: "Send a mail to confirm the address" }).click();
  await waitForText(page, "A mail with a link is on its way.");
  await waitFor("another mail", () => verificationCount("bob@example.com") === 2);

  const address = page.locator("[data-part=emailAddress]");
  await page.getByText("Change the email address").click();
  const form = page.locator("form", { hasText: "Change email address" });
  await form.getByLabel("New email address").fill("robert@example.com");
  await form.getByLabel("Current password").fill("not the current password");
  await form.getByRole("button").click();
  await waitForText(page, "That is not your current password.");
  await form.getByLabel("Current password").fill(PASSWORD);
  await form.getByRole("button").click();
  await waitForText(page, "A mail with a link is on its way to robert@example.com.");
  await address.getByText("bob@example.com").waitFor();

  await followLink(page, "Confirm your new email address", "Your email address has been changed.");
  await openAccount(page, "Bob");
  await address.getByText("robert@example.com").waitFor();
  await page.locator("[data-part=emailState]").getByText("confirmed", { exact: true }).waitFor();
  await page.getByRole("button", { name: "Send a mail to confirm the address" }).waitFor({ state: "hidden" });

  await page.goto(await linkIn("Your email address was changed"));
  await page.getByRole("button", { name: "Restore your email address" }).click();
  await waitForText(page, "Your email address is restored.");
}

/** Opens the link in a mail and presses the button, whose label is the subject. */
async function followLink(page, subject, note) {
  await page.goto(await linkIn(subject));
  await page.getByRole("button", { name: subject }).click();
  await waitForText(page, note);
  await waitForTaskView(page);
}
