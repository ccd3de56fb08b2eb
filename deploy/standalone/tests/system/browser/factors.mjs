// An authenticator app is added, and used to log in and to prove the identity; recovery codes replace it.
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import {
  axe, entry, openAccount, openPage, runInBrowser, signUp, waitForLoginView, waitForTaskView, waitForText, PASSWORD,
} from "./support.mjs";
import { DEVICES, viewChecker } from "./views.mjs";

const SECTION = "Two-factor login";
const STEP_UP_REQUIRED = {
  error: {
    code: 403,
    status: "PERMISSION_DENIED",
    message: "requires a recent proof",
    details: [{ "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason: "STEP_UP_REQUIRED" }],
  },
};

await runInBrowser(async () => {
  for (const [device, options] of Object.entries(DEVICES)) await checkFactors(`ann-${device}@example.com`, device, options);
});

async function checkFactors(email, device, options) {
  const page = await openPage({ ...options, scripts: [axe] });
  const check = viewChecker(page, device);
  const press = (name) => page.getByRole("button", { name, exact: true }).click();
  await signUp(page, email, "Ann");
  await openAccount(page, "Ann", SECTION);
  await waitForText(page, "You have none, so a login needs only your password.");
  const { secret, step, codes } = await addApp(page, check);

  await press("Log out");
  await enterPassword(page, email);
  await check("login-code");
  await page.getByLabel("Code of your app").fill(totp(secret, step - 1));
  await press("Log in");
  await waitForText(page, "The code is wrong, or was already used.");
  await page.getByLabel("Code of your app").fill(totp(secret, step));
  await press("Log in");
  await waitForTaskView(page);
  await press("Log out");
  await enterPassword(page, email);
  await press("Recovery code instead");
  await page.getByLabel("Recovery code").fill(codes[0].toLowerCase());
  await press("Log in");
  await waitForTaskView(page);

  await openAccount(page, "Ann", SECTION);
  await waitForText(page, "Unused recovery codes: 9.");
  await check("factors");
  await requireProofOnce(page, "**/v1/me/factors:regenerateRecoveryCodes");
  await press("Create new recovery codes");
  await press("Create new codes");
  await press("Code of your app instead");
  await check("step-up");
  await page.getByLabel("Code of your app").fill(totp(secret, step + 1));
  await press("Continue");
  await page.getByRole("heading", { name: "Your recovery codes" }).waitFor();
  await press("I have stored them");
  await waitForText(page, "Unused recovery codes: 10.");

  await entry(page, "My phone").getByRole("button", { name: "Rename" }).click();
  await page.getByRole("dialog").getByLabel("Name").fill("Old phone");
  await press("Save");
  await entry(page, "Old phone").getByRole("button", { name: "Delete" }).click();
  await press("Delete factor");
  await waitForText(page, "You have none, so a login needs only your password.");
  await press("Log out");
  await enterPassword(page, email);
  await waitForTaskView(page);
}

/** Adds an authenticator app. Returns its secret, the present time step, and the recovery codes. */
async function addApp(page, check) {
  await page.getByLabel("Name (optional)").fill("My phone");
  await page.getByRole("button", { name: "Add an app" }).click();
  const dialog = page.getByRole("dialog");
  const secret = (await dialog.locator("[data-part=secret]").textContent()).replaceAll(" ", "");
  const isShown = await dialog.locator("img").evaluate((image) => image.decode().then(() => image.naturalWidth > 0));
  if (!isShown) throw new Error("the QR code is not shown");
  await check("totp");
  await dialog.getByLabel("Code that the app shows").fill("000 000");
  await dialog.getByRole("button", { name: "Confirm" }).click();
  await waitForText(page, "The code is wrong, or was already used.");
  const step = Math.floor(Date.now() / 30_000);
  await dialog.getByLabel("Code that the app shows").fill(totp(secret, step - 1));
  await dialog.getByRole("button", { name: "Confirm" }).click();
  await page.getByRole("heading", { name: "Your recovery codes" }).waitFor();
  await check("recovery-codes");
  const codes = (await page.getByRole("textbox", { name: "Recovery codes" }).inputValue()).split("\n");
  const download = page.waitForEvent("download");
  await page.getByRole("link", { name: "Download them" }).click();
  const saved = readFileSync(await (await download).path(), "utf8");
  if (codes.length !== 10 || saved !== `${codes.join("\n")}\n`) throw new Error(`saved ${saved}`);
  await page.getByRole("button", { name: "I have stored them" }).click();
  await entry(page, "My phone").waitFor();
  return { secret, step, codes };
}

/** Logs in with the password only. */
async function enterPassword(page, email) {
  await waitForLoginView(page);
  await page.getByLabel("Email address").fill(email);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Log in", exact: true }).click();
}

/** Makes the next call of these paths fail until the user has proved the identity. */
async function requireProofOnce(page, paths) {
  await page.route(paths, (route) => route.fulfill({ status: 403, json: STEP_UP_REQUIRED }), { times: 1 });
}

/** Returns the code of a time step (RFC 6238). */
function totp(secret, step) {
  const bits = [...secret].map((c) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(c).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(step));
  const tag = createHmac("sha1", key).update(counter).digest();
  const number = tag.readUInt32BE(tag[19] & 15) & 0x7fffffff;
  return String(number % 1_000_000).padStart(6, "0");
}
