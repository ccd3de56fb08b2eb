// A browser, its windows, and what a person does in them.
import { existsSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";

const { TASKEY_URL, TASKEY_TARGET, PATH } = process.env;
const tools = createRequire(`${TASKEY_TARGET}/tools/browser/node_modules/`);
const { chromium } = tools("playwright-core");

export const axe = tools.resolve("axe-core/axe.min.js");
export const PASSWORD = "correct horse battery staple";

export const executablePath = PATH.split(":").map((folder) => `${folder}/chromium`).find(existsSync);

const faults = [];
let browser;

/** Runs a script in a browser, and fails if a page has complained. */
export async function inBrowser(run) {
  browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  try {
    await run();
    if (faults.length) throw new Error(`the console says:\n${faults.join("\n")}`);
  } finally {
    await browser.close();
  }
}

/** Opens a window on a device of its own, or on that of another window. */
export async function open({ beside, scripts = [], ...options } = {}) {
  const device = { baseURL: TASKEY_URL, locale: "en-GB", timezoneId: "Europe/Berlin", ...options };
  const context = beside?.context() ?? (await browser.newContext(device));
  for (const path of scripts) await context.addInitScript({ path });
  const page = await context.newPage();
  page.on("pageerror", (error) => faults.push(error.stack));
  page.on("console", (message) => {
    // That a request was refused is no fault of the page.
    const refused = message.text().startsWith("Failed to load resource");
    if (["error", "warning"].includes(message.type()) && !refused) faults.push(message.text());
  });
  await page.goto("/");
  return page;
}

export async function signUp(page, email, name = "") {
  await page.getByRole("button", { name: "Create an account" }).click();
  await page.getByLabel("Your name").fill(name);
  await page.getByLabel("E-mail address").fill(email);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Create an account" }).click();
  await entered(page);
}

export async function logIn(page, email, password = PASSWORD) {
  await page.getByLabel("E-mail address").fill(email);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Log in", exact: true }).click();
  await entered(page);
}

/** Waits until tasks can be seen. */
export async function entered(page) {
  await page.getByLabel("New task", { exact: true }).waitFor();
}

/** Waits until a person must log in. */
export async function loggedOut(page) {
  await page.getByRole("heading", { name: "Log in" }).waitFor();
}

export async function add(page, title) {
  await page.getByLabel("New task", { exact: true }).fill(title);
  await page.keyboard.press("Enter");
  await see(page, title);
}

/** The row of a task. */
export function row(page, title) {
  const exactly = page.locator(".title").getByText(title, { exact: true });
  return page.locator(".row").filter({ has: exactly });
}

export async function see(page, title) {
  await row(page, title).waitFor();
}

export async function seeNot(page, title) {
  await row(page, title).waitFor({ state: "detached" });
}

/** Waits until the open tasks at the top are these, in this order. */
export async function seeInOrder(page, titles) {
  for (const [at, title] of titles.entries()) {
    const place = page.locator(`[aria-label="Open tasks"] > .task:nth-child(${at + 1}) > .row .title`);
    await place.getByText(title, { exact: true }).waitFor();
  }
}

/** Waits until somewhere in the page there is this text. */
export async function read(page, text) {
  await page.getByText(text).first().waitFor();
}

export async function edit(page, title, fields) {
  await row(page, title).locator(".body").click();
  const form = page.locator(".editor");
  for (const [label, value] of Object.entries(fields)) {
    const field = form.getByLabel(label);
    if (["Priority", "List"].includes(label)) await field.selectOption({ label: value });
    else await field.fill(value);
  }
  return form;
}

export async function save(form) {
  await form.getByRole("button", { name: "Save" }).click();
}

export async function picture(page, name) {
  mkdirSync(`${TASKEY_TARGET}/screenshots`, { recursive: true });
  await page.screenshot({ path: `${TASKEY_TARGET}/screenshots/${name}.png` });
}
