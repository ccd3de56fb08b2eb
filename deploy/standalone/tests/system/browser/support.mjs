// Starts the browser, opens pages, and performs and checks the actions of a user.
import { existsSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { setTimeout } from "node:timers/promises";

const { TASKEY_URL, TASKEY_TARGET, PATH } = process.env;
const tools = createRequire(`${TASKEY_TARGET}/tools/browser/node_modules/`);
const { chromium } = tools("playwright-core");

export const axe = tools.resolve("axe-core/axe.min.js");
export const PASSWORD = "correct horse battery staple";

export const executablePath = PATH.split(":").map((folder) => `${folder}/chromium`).find(existsSync);

const consoleErrors = [];
let browser;

/** Runs a test in a browser. Fails if a page logs an error or a warning. */
export async function runInBrowser(test) {
  const args = ["--no-sandbox", "--host-resolver-rules=MAP *.example.org 127.0.0.1"];
  browser = await chromium.launch({ executablePath, args });
  try {
    await test();
    if (consoleErrors.length) throw new Error(`errors in the console:\n${consoleErrors.join("\n")}`);
  } finally {
    await browser.close();
  }
}

/** Opens a page in a new browser context, or in the context of the page `beside`. */
export async function openPage({ beside, scripts = [], ...options } = {}) {
  const contextOptions = { baseURL: TASKEY_URL, locale: "en-GB", timezoneId: "Europe/Berlin", ...options };
  const context = beside?.context() ?? (await browser.newContext(contextOptions));
  for (const path of scripts) await context.addInitScript({ path });
  const page = await context.newPage();
  page.on("pageerror", (error) => consoleErrors.push(error.stack));
  page.on("console", (message) => {
    // The browser logs each error response, although the page handles it.
    const isErrorResponse = message.text().startsWith("Failed to load resource");
    if (["error", "warning"].includes(message.type()) && !isErrorResponse) consoleErrors.push(message.text());
  });
  await page.goto("./");
  return page;
}

export async function signUp(page, email, name = "") {
  await page.getByRole("button", { name: "Create an account" }).click();
  await page.getByLabel("Your name").fill(name);
  await page.getByLabel("Email address").fill(email);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Create an account" }).click();
  await waitForTaskView(page);
}

export async function logIn(page, email, password = PASSWORD) {
  await page.getByLabel("Email address").fill(email);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Log in", exact: true }).click();
  await waitForTaskView(page);
}

/** Waits until the task view is shown. */
export async function waitForTaskView(page) {
  await page.getByLabel("New task", { exact: true }).waitFor();
}

/** Waits until the login view is shown. */
export async function waitForLoginView(page) {
  await page.getByRole("heading", { name: "Log in" }).waitFor();
}

export async function addTask(page, title) {
  await page.getByLabel("New task", { exact: true }).fill(title);
  await page.keyboard.press("Enter");
  await waitForTask(page, title);
}

/** Returns the row of a task. */
export function row(page, title) {
  const exactTitle = page.locator(".title").getByText(title, { exact: true });
  return page.locator(".row").filter({ has: exactTitle });
}

export async function waitForTask(page, title) {
  await row(page, title).waitFor();
}

export async function waitForNoTask(page, title) {
  await row(page, title).waitFor({ state: "detached" });
}

/** Waits until the top-level open tasks have this order. */
export async function waitForOrder(page, titles) {
  for (const [index, title] of titles.entries()) {
    const position = page.locator(`[aria-label="Open tasks"] > .task:nth-child(${index + 1}) > .row .title`);
    await position.getByText(title, { exact: true }).waitFor();
  }
}

/** Waits until the page contains a text. */
export async function waitForText(page, text) {
  await page.getByText(text).first().waitFor();
}

/** Opens the editor of a task, fills in fields by their labels, and returns the form. */
export async function editTask(page, title, fields) {
  await row(page, title).locator(".body").click();
  const form = page.locator(".editor");
  for (const [label, value] of Object.entries(fields)) {
    const field = form.getByLabel(label);
    if (["Priority", "List"].includes(label)) await field.selectOption({ label: value });
    else await field.fill(value);
  }
  return form;
}

export async function saveForm(form) {
  await form.getByRole("button", { name: "Save" }).click();
}

/** Opens a view of the account, for example “Access tokens”. `name` is that of the user. */
export async function openAccount(page, name, section = "Account") {
  await page.locator(".account-link").getByText(name, { exact: true }).click();
  const link = page.getByRole("navigation").getByRole("link", { name: section, exact: true });
  await link.click();
  await link.and(page.locator("[aria-current=page]")).waitFor();
}

/** Selects a file to import, and lets the page check it. */
export async function checkFile(page, name, text) {
  await page.getByLabel("File", { exact: true }).setInputFiles({ name, mimeType: "text/plain", buffer: Buffer.from(text) });
  await page.getByRole("button", { name: "Check the file" }).click();
}

/** Returns the item of a list of the account with this title. */
export function entry(page, title) {
  return page.locator(".entries li").filter({ has: page.locator("strong").getByText(title, { exact: true }) });
}

/** Waits until a condition is met, for at most 10 seconds. */
export async function waitFor(description, condition) {
  for (let attempt = 0; attempt < 100; attempt++) {
    if (await condition()) return;
    await setTimeout(100);
  }
  throw new Error(`never: ${description}`);
}

export async function takeScreenshot(page, name) {
  mkdirSync(`${TASKEY_TARGET}/screenshots`, { recursive: true });
  await page.screenshot({ path: `${TASKEY_TARGET}/screenshots/${name}.png` });
}
