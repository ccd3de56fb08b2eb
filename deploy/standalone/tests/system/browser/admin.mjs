// An administrator searches, disables, enables, unlocks and logs out accounts, reads the audit log, sends failed mails
// again, and manages service accounts. Names of users and their programs are shown as text.
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
  await manageServiceAccounts(page);
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
  await openAccount(page, "Root", "Service accounts");
  await page.getByLabel("Label").fill(`Billing ${device}`);
  await page.getByLabel("tasks.read").check();
  await page.getByRole("button", { name: "Create service account" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Copy" }).waitFor();
  await check("admin-service-secret");
  await page.getByRole("dialog").getByRole("button", { name: "Done" }).click();
  await entry(page, `Billing ${device}`).waitFor();
  await check("admin-services");
  await entry(page, `Billing ${device}`).getByRole("button", { name: "Rotate" }).click();
  await check("admin-service-rotate");
}

/** Creates a service account, uses its secrets, and deletes it. */
async function manageServiceAccounts(page) {
  await openAccount(page, "Root", "Service accounts");
  await waitForText(page, "There are no service accounts.");
  const press = (name) => page.getByRole("button", { name, exact: true }).click();
  await page.getByLabel("Label").fill(MARKUP);
  await press("Create service account");
  await waitForText(page, "Select at least one scope.");
  await page.getByLabel("tasks.read").check();
  await page.getByLabel("admin.read").check();
  await page.getByLabel("Name in a certificate").fill("not a name");
  await press("Create service account");
  await page.locator("[name=certificateName][aria-invalid]").waitFor();
  await page.getByLabel("Name in a certificate").fill("");
  await press("Create service account");
  const first = await readSecret(page);
  const account = entry(page, MARKUP);
  await account.getByText("tasks.read · admin.read").waitFor();
  const id = (await account.getByText(/^Id /).textContent()).slice(3);
  if ((await statusOfToken(id, first)) !== 200) throw new Error("the secret is refused");

  await account.getByRole("button", { name: "Rotate" }).click();
  await page.getByLabel("The old secret").selectOption({ label: "stays valid for an hour" });
  await press("Rotate secret");
  const second = await readSecret(page);
  await account.getByText("the old secret is valid until").waitFor();
  await account.getByRole("button", { name: "Rotate" }).click();
  await press("Rotate secret");
  const third = await readSecret(page);
  const statuses = await Promise.all([first, second, third].map((secret) => statusOfToken(id, secret)));
  if (statuses.join() !== "401,401,200") throw new Error(`the secrets after two rotations: ${statuses}`);

  await page.getByLabel("Label").fill("With a certificate");
  await page.getByLabel("tokens.verify").check();
  await page.getByLabel("Name in a certificate").fill("Verifier.example.org");
  await press("Create service account");
  await entry(page, "With a certificate").getByText("with a certificate for verifier.example.org").waitFor();
  if (await entry(page, "With a certificate").getByRole("button", { name: "Rotate" }).count()) {
    throw new Error("a certificate can be rotated");
  }
  for (const item of [entry(page, "With a certificate"), account]) {
    await item.getByRole("button", { name: "Delete" }).click();
    await press("Delete service account");
    await item.waitFor({ state: "detached" });
  }
  await waitForText(page, "There are no service accounts.");
  if ((await statusOfToken(id, third)) !== 401) throw new Error("a deleted service account gets a token");
  await assertNoMarkup(page);
}

/** Returns the secret that the dialog shows, and closes it. */
async function readSecret(page) {
  const dialog = page.getByRole("dialog");
  const secret = await dialog.getByLabel("Secret", { exact: true }).inputValue();
  if (!/^taskey_client_[\w-]{43}$/.test(secret)) throw new Error(`not a secret: ${secret}`);
  await dialog.getByRole("button", { name: "Done" }).click();
  await dialog.waitFor({ state: "detached" });
  return secret;
}

/** Requests an access token with client credentials, and returns the status. */
async function statusOfToken(id, secret) {
  const body = new URLSearchParams({ grant_type: "client_credentials", client_id: id, client_secret: secret });
  return (await fetch(`${TASKEY_URL}/v1/oauth2/token`, { method: "POST", body })).status;
}

async function assertNoMarkup(page) {
  const injected = await page.locator("img[src=x], #view script").count();
  if (injected || (await page.title()) === "owned") throw new Error("markup became part of the page");
}
