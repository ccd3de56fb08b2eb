// Personal access tokens are created, copied, used, edited, rotated and deleted.
import { entry, openAccount, openPage, runInBrowser, signUp, waitFor, waitForText } from "./support.mjs";

const { TASKEY_URL } = process.env;

await runInBrowser(async () => {
  const page = await openPage({ permissions: ["clipboard-read", "clipboard-write"] });
  await signUp(page, "ann@example.com", "Ann");
  await openAccount(page, "Ann", "Access tokens");
  await waitForText(page, "You have no access tokens.");

  await page.getByLabel("Label").fill("Backup script");
  await submit(page, "Create token");
  await waitForText(page, "Select at least one scope.");
  if (await page.getByLabel("admin.read").count()) throw new Error("a user can select scopes of administrators");
  await page.getByLabel("tasks.read").check();
  await page.getByLabel("Networks").fill("300.0.0.0/8");
  await submit(page, "Create token");
  await page.locator("[name=networks][aria-invalid]").waitFor();
  await page.getByLabel("Networks").fill("192.0.2.0/24, 198.51.100.7");
  await submit(page, "Create token");
  const secret = await copySecret(page);
  await entry(page, "Backup script").getByText("not used yet").waitFor();
  await entry(page, "Backup script").getByText("only from 192.0.2.0/24, 198.51.100.7").waitFor();
  await waitForRefusal(secret);

  await entry(page, "Backup script").getByRole("button", { name: "Edit" }).click();
  await page.getByRole("dialog").getByLabel("Name").fill("Nightly backup");
  await page.getByRole("dialog").getByLabel("Networks").fill("");
  await submit(page, "Save");
  await entry(page, "Nightly backup").waitFor();
  if (await page.getByText("only from 192").count()) throw new Error("the networks are not removed");
  await waitFor("the token is accepted", async () => (await statusOf("GET", secret)) === 200);
  if ((await statusOf("POST", secret)) !== 403) throw new Error("the token may write tasks");
  await openAccount(page, "Ann");
  await openAccount(page, "Ann", "Access tokens");
  await entry(page, "Nightly backup").getByText(/last used .* from 127\.0\.0\.1/).waitFor();

  await entry(page, "Nightly backup").getByRole("button", { name: "Rotate" }).click();
  await submit(page, "Rotate token");
  const newSecret = await copySecret(page);
  await waitForRefusal(secret);
  if ((await statusOf("GET", newSecret)) !== 200) throw new Error("the new secret is refused");

  await entry(page, "Nightly backup").getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  await entry(page, "Nightly backup").getByRole("button", { name: "Delete" }).click();
  await submit(page, "Delete token");
  await waitForText(page, "You have no access tokens.");
  await waitForRefusal(newSecret);
});

async function submit(page, name) {
  await page.getByRole("button", { name, exact: true }).click();
}

/** Copies the secret that the dialog shows, and closes it. The Escape key does not. */
async function copySecret(page) {
  const dialog = page.getByRole("dialog");
  await page.keyboard.press("Escape");
  await dialog.getByRole("button", { name: "Copy" }).click();
  await dialog.getByText("Copied.").waitFor();
  const secret = await page.evaluate(() => navigator.clipboard.readText());
  if (!/^taskey_pat_[\w-]+$/.test(secret)) throw new Error(`copied ${secret}`);
  await dialog.getByRole("button", { name: "Done" }).click();
  await dialog.waitFor({ state: "detached" });
  if ((await page.content()).includes(secret)) throw new Error("the secret is still in the page");
  return secret;
}

async function statusOf(method, secret) {
  const headers = { authorization: `Bearer ${secret}`, "content-type": "application/json" };
  const body = method === "POST" ? JSON.stringify({ title: "From a script" }) : undefined;
  return (await fetch(`${TASKEY_URL}/v1/tasks`, { method, headers, body })).status;
}

async function waitForRefusal(secret) {
  await waitFor("the token is refused", async () => [401, 403].includes(await statusOf("GET", secret)));
}
