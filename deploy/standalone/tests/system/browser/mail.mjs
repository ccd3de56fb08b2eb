// Confirming an address and resetting a forgotten password with links in mails, which are files in the folder MAILS.
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { logIn, openPage, runInBrowser, signUp, takeScreenshot, waitForLoginView, waitForText } from "./support.mjs";

const { MAILS, TASKEY_URL } = process.env;
const EMAIL = "ann@example.com";
const NEW_PASSWORD = "another staple battery horse";

/** Waits for the mail with this subject, and returns its link. */
async function linkIn(subject) {
  for (let attempt = 0; attempt < 100; attempt++) {
    const mails = readdirSync(MAILS).map((name) => readFileSync(`${MAILS}/${name}`, "utf8"));
    const mail = mails.find((text) => text.includes(`\r\nSubject: ${subject}\r\n`));
    if (mail) return mail.split("\r\n").find((line) => line.startsWith(`${TASKEY_URL}#`));
    await setTimeout(100);
  }
  throw new Error(`no mail ${subject}`);
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
});
