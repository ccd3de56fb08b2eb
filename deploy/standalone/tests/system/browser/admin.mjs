// An administrator searches, disables, enables, unlocks and logs out accounts, reads the audit log, and sends failed
// mails again. Names of users and their programs are shown as text.
import { execFileSync } from "node:child_process";
import {
  axe, entry, logIn, openAccount, openPage, runInBrowser, signUp, waitFor, waitForLoginView, waitForText, PASSWORD,
} from "./support.mjs";
import { startMailServer } from "./smtp.mjs";
import { DEVICES, viewChecker } from "./views.mjs";

const { TASKEY_URL, AUTH_SERVICE, DATABASE_URL, MAIL_PORT } = process.env;
const MARKUP = "<img src=x onerror=\"document.title='owned'\">";
const USERS = 21;

await runInBrowser(async () => {
  const mailServer = await startMailServer(Number(MAIL_PORT));
  for (let index = 0; index < USERS; index++) await createUser(`user${index}@example.com`);
  const page = await openPage();
  await signUp(page, "root@example.com", "Root");
  await openAccount(page, "Root");
  if (await page.getByRole("link", { name: "Users" }).count()) throw new Error("a user sees the links of administrators");
  execFileSync(AUTH_SERVICE, ["users", "set-role", "root@example.com", "admin", "--database-url", DATABASE_URL]);
  await page.getByRole("button", { name: "Log out", exact: true }).click();
  await waitForLoginView(page);
  await logIn(page, "root@example.com");
  const bob = await openPage({ userAgent: MARKUP });
  await signUp(bob, "bob@example.com", MARKUP);

  await searchUsers(page);
  await changeAccount(page, bob);
  await readAuditLog(page);
  await sendMailsAgain(page, mailServer);
  for (const [device, options] of Object.entries(DEVICES)) await checkViews(device, options);
});

async function createUser(email) {
  const body = JSON.stringify({ email, password: PASSWORD });
  const headers = { "content-type": "application/json" };
  const response = await fetch(`${TASKEY_URL}/v1/auth/signup`, { method: "POST", headers, body });
  if (!response.ok) throw new Error(await response.text());
}

async function searchUsers(page) {
  await openAccount(page, "Root", "Users");
  await entry(page, "bob@example.com").getByText(MARKUP).waitFor();
  await entry(page, "root@example.com").getByText("admin", { exact: true }).waitFor();
  const items = page.locator(".entries li");
  if ((await items.count()) !== 20) throw new Error(`${await items.count()} users on the first page`);
  await page.getByRole("button", { name: "Show more" }).click();
  await entry(page, "user0@example.com").waitFor();
  if ((await items.count()) !== USERS + 2) throw new Error(`${await items.count()} users on two pages`);

  await page.getByLabel("Accounts").selectOption({ label: "Disabled" });
  await page.getByRole("button", { name: "Search" }).click();
  await waitForText(page, "No account was found.");
  await page.getByLabel("Accounts").selectOption({ label: "All" });
  await page.getByLabel("Email address").fill("bo");
  await page.getByRole("button", { name: "Search" }).click();
  await waitFor("one user is found", async () => (await items.count()) === 1);
  await page.getByRole("link", { name: "bob@example.com" }).click();
  await page.getByRole("heading", { name: "bob@example.com" }).waitFor();
}

/** Changes the account in the view, which is that of the page `user`. */
async function changeAccount(page, user) {
  const press = (name) => page.getByRole("button", { name, exact: true }).click();
  await page.locator(".facts").getByText(MARKUP).waitFor();
  await press("Disable");
  await press("Disable account");
  await waitForText(page, "The account is disabled.");
  await waitForLoginView(user);
  await waitForText(page, "Nowhere.");
  await press("Enable");
  await waitForText(page, "The account is enabled.");
  await logIn(user, "bob@example.com");
  await press("Unlock");
  await waitForText(page, "The count of wrong passwords is reset.");
  await press("Delete second factors");
  await page.getByRole("dialog").getByRole("button", { name: "Delete second factors" }).click();
  await waitForText(page, "The second factors of the user are deleted.");
  await press("Log out everywhere");
  await page.getByRole("dialog").getByRole("button", { name: "Log out everywhere" }).click();
  await waitForLoginView(user);
}

async function readAuditLog(page) {
  await page.getByRole("link", { name: "Audit log of this account" }).click();
  await entry(page, "The account was disabled").getByText("by an administrator").waitFor();
  await entry(page, "The account was created").getByText(MARKUP).waitFor();
  await page.getByLabel("Kind of event").selectOption({ label: "User enabled" });
  await entry(page, "The account was disabled").waitFor({ state: "detached" });
  await entry(page, "The account was enabled").waitFor();
  await page.getByRole("link", { name: "All accounts" }).click();
  await waitForText(page, "An administrator called ListAuditEvents for the account");
  await assertNoMarkup(page);
}

async function sendMailsAgain(page, mailServer) {
  await openAccount(page, "Root", "Mail");
  const mails = entry(page, "bob@example.com").filter({ hasText: "Verify email" });
  await mails.getByText("5.1.1 no such mailbox <script>").waitFor();
  mailServer.recipientReply = "250 ok";
  await mails.getByRole("button", { name: "Send again" }).click();
  await waitForText(page, "The mail is being sent again.");
  await waitFor("the mail is sent", async () => {
    for (const label of ["Failed", "Sent"]) await page.getByLabel("State").selectOption({ label });
    await page.locator(".entries li, .empty:not(:empty)").first().waitFor();
    return mails.count();
  });
  await assertNoMarkup(page);
}

async function checkViews(device, options) {
  const page = await openPage({ ...options, scripts: [axe] });
  const check = viewChecker(page, device);
  await logIn(page, "root@example.com");
  await openAccount(page, "Root", "Users");
  await page.getByLabel("Email address").fill("bob@");
  await page.getByRole("button", { name: "Search" }).click();
  await entry(page, "user0@example.com").waitFor({ state: "detached" });
  await check("admin-users");
  await page.getByRole("link", { name: "bob@example.com" }).click();
  await page.locator(".facts dd").first().waitFor();
  await waitForText(page, "Nowhere.");
  await check("admin-user");
  await page.getByRole("button", { name: "Disable" }).click();
  await check("admin-dialog");
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("link", { name: "Audit log of this account" }).click();
  await entry(page, "The account was created").waitFor();
  await check("admin-audit-account");
  await openAccount(page, "Root", "Audit log");
  await waitForText(page, "A device logged in");
  await check("admin-audit");
  await openAccount(page, "Root", "Mail");
  await entry(page, "root@example.com").first().waitFor();
  await check("admin-mail");
}

async function assertNoMarkup(page) {
  const injected = await page.locator("img[src=x], #view script").count();
  if (injected || (await page.title()) === "owned") throw new Error("markup became part of the page");
}
