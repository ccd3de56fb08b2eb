// A user allows and refuses devices on the page, by keyboard, after a login and a proof of the password.
import { setTimeout } from "node:timers/promises";
import { axe, openPage, runInBrowser, signUp, waitForLoginView, waitForText, PASSWORD } from "./support.mjs";
import { DEVICES, viewChecker } from "./views.mjs";

const { TASKEY_URL } = process.env;
const GRANT = "urn:ietf:params:oauth:grant-type:device_code";
const NAME = "Terminal of Ann";

async function post(path, fields) {
  const response = await fetch(`${TASKEY_URL}/v1/oauth2/${path}`, { method: "POST", body: new URLSearchParams(fields) });
  return response.json();
}

const requestCodes = (scope) => post("device_authorization", { client_id: NAME, scope });
const poll = (codes) => post("token", { grant_type: GRANT, client_id: NAME, device_code: codes.device_code });

async function assertPoll(codes, error) {
  const response = await poll(codes);
  if (response.error !== error) throw new Error(`${JSON.stringify(response)} instead of ${error}`);
}

const heading = (page, name) => page.getByRole("heading", { name, exact: true });

/** Waits until the heading of the view has the focus, from which screen readers go on. */
async function waitForFocus(page, name) {
  await heading(page, name).and(page.locator(":focus")).waitFor();
}

await runInBrowser(async () => {
  const page = await openPage();
  const codes = await requestCodes("tasks.read account.read");

  // Without a login, the page shows nothing of the device.
  await page.goto(codes.verification_uri_complete);
  await waitForText(page, "Log in to connect a device.");
  if (await page.getByText(NAME).count()) throw new Error("the page shows a device before the login");
  await page.goto(TASKEY_URL);
  await signUp(page, "ann@example.com", "Ann");

  // A link changes nothing, and neither does the code.
  await page.goto(codes.verification_uri_complete);
  await heading(page, "Connect a device").waitFor();
  await assertPoll(codes, "authorization_pending");
  await page.keyboard.press("Enter");
  await waitForFocus(page, "Allow this device?");
  for (const text of [codes.user_code, NAME, "not verified", "127.0.0.1", "ann@example.com", "Read your tasks and lists"]) {
    await waitForText(page, text);
  }
  if (await page.getByText("Do everything").count()) throw new Error("the scopes are not shown");

  // The test sets --step-up-max-age to 5 seconds.
  await setTimeout(6000);
  const dialog = page.getByRole("dialog");
  await page.keyboard.press("Tab");
  await page.getByRole("button", { name: "Allow" }).and(page.locator(":focus")).waitFor();
  await page.keyboard.press("Enter");
  await dialog.getByLabel("Password").waitFor();
  await assertPoll(codes, "authorization_pending");
  await dialog.getByLabel("Password").fill(PASSWORD);
  await page.keyboard.press("Enter");
  await waitForFocus(page, "The device is connected");
  const { access_token: token, scope } = await poll(codes);
  if (scope !== "tasks.read account.read") throw new Error(`the scope is ${scope}`);
  const me = await fetch(`${TASKEY_URL}/v1/me`, { headers: { authorization: `Bearer ${token}` } });
  if ((await me.json()).email !== "ann@example.com") throw new Error("the device is not logged in");

  // Refused, by a code that is typed.
  const refused = await requestCodes("");
  await page.goto("device");
  await page.getByLabel("Code that the device shows").fill("BCDF-GHJK");
  await page.getByRole("button", { name: "Continue" }).click();
  await waitForText(page, "No device waits with this code.");
  await page.getByLabel("Code that the device shows").fill(refused.user_code.toLowerCase().replace("-", " "));
  await page.getByRole("button", { name: "Continue" }).click();
  await waitForText(page, "Do everything that you can do after a login");
  await page.getByRole("button", { name: "Refuse" }).click();
  await waitForFocus(page, "The device was refused");
  await assertPoll(refused, "access_denied");

  // The session is listed under the name of the device.
  await page.getByRole("link", { name: "Go to your tasks" }).click();
  await page.locator(".account-link").click();
  await page.locator(".entries li").filter({ hasText: NAME }).filter({ hasText: "only tasks.read, account.read" }).waitFor();
  await page.getByRole("button", { name: "Log out", exact: true }).click();
  await waitForLoginView(page);

  for (const [name, options] of Object.entries(DEVICES)) await checkViews(name, options);
});

async function checkViews(name, options) {
  const page = await openPage({ ...options, scripts: [axe] });
  const check = viewChecker(page, name);
  await signUp(page, `${name}@example.com`);
  const codes = await requestCodes("tasks.read tasks.write account.read");
  await page.goto(codes.verification_uri_complete);
  await heading(page, "Connect a device").waitFor();
  await check("device-code");
  await page.keyboard.press("Enter");
  await waitForFocus(page, "Allow this device?");
  await check("device");
  await page.getByRole("button", { name: "Refuse" }).click();
  await waitForFocus(page, "The device was refused");
  await check("device-refused");
}
