// Checks each view with axe, in the light and dark colour schemes and on a phone, and saves a screenshot of each.
import {
  addTask, axe, checkFile, editTask, entry, openAccount, openPage, row, runInBrowser, saveForm, signUp, waitForTask,
  waitForText,
} from "./support.mjs";
import { DEVICES, viewChecker } from "./views.mjs";

/** Nothing listens there. */
const WEBHOOK_URL = "http://127.0.0.1:9/tasks";

await runInBrowser(async () => {
  for (const [device, options] of Object.entries(DEVICES)) await checkViews(device, options);
});

async function checkViews(device, options) {
  const page = await openPage({ ...options, scripts: [axe] });
  const check = viewChecker(page, device);
  await page.getByRole("heading", { name: "Log in" }).waitFor();
  await check("login");
  await page.getByRole("link", { name: "Forgot your password?" }).click();
  await page.getByRole("heading", { name: "Reset your password" }).waitFor();
  await check("forgot-password");
  await page.getByRole("link", { name: "Back to Taskey" }).click();
  await page.getByRole("button", { name: "Create an account" }).click();
  await check("signup");
  await page.getByRole("button", { name: "Log in" }).click();
  await signUp(page, `ann-${device}@example.com`, "Ann");
  await waitForText(page, "Nothing to do here yet.");
  await check("empty");
  await addTestData(page);
  await check("tasks");
  const form = await editTask(page, "Book a van", {});
  await check("editor");
  await form.getByRole("button", { name: "History" }).click();
  await entry(page, "Created").waitFor();
  await check("history");
  await page.getByRole("dialog").getByRole("button", { name: "Close" }).click();
  await checkSchedule(page, check, form);
  await showSidebar(page);
  await check("lists");
  await page.locator(".lists a", { hasText: "Move house" }).click();
  await page.getByRole("button", { name: "Delete list" }).click();
  await check("dialog");
  await page.keyboard.press("Escape");
  await row(page, "Tell the bank").getByLabel("Delete Tell the bank").click();
  await waitForText(page, "Deleted “Tell the bank”.");
  await check("toast");
  await page.getByLabel("Search all tasks").fill("an");
  await waitForTask(page, "Book a van");
  await check("search");
  await checkAccount(page, check);
  await checkFiles(page, check);
  await checkWebhooks(page, check);
  await page.context().setOffline(true);
  await waitForText(page, "You are offline.");
  await check("offline");
}

/** Checks the ways to enter a recurrence, and a reminder, and saves them. */
async function checkSchedule(page, check, form) {
  for (const [name, text] of [["Weekly", "Every week"], ["Monthly", "Every month"]]) {
    await form.getByLabel("Repeats").selectOption(name);
    await waitForText(page, text);
    await check(`recurrence-${name.toLowerCase()}`);
  }
  await form.getByLabel("Repeats").selectOption("In words or by a rule");
  await form.locator("[name=rrule]").fill("FREQ=SECONDLY");
  await waitForText(page, "FREQ must be one of");
  await check("recurrence-rule");
  await form.locator("[name=rrule]").fill("FREQ=DAILY");
  await waitForText(page, "Every day");
  await form.getByLabel("When to remind me").selectOption("The day before at 9:00");
  await form.getByRole("button", { name: "Add a reminder" }).click();
  await form.getByRole("button", { name: "Remove the reminder: The day before at 9:00" }).waitFor();
  await check("reminder");
  await saveForm(form);
  await row(page, "Book a van").getByText("repeats every day").waitFor();
  await check("recurring");
}

async function checkAccount(page, check) {
  await openAccount(page, "Ann");
  await page.locator(".entries li").first().waitFor();
  await page.getByText("Change the email address").click();
  await check("account");
  await openAccount(page, "Ann", "Access tokens");
  await page.getByLabel("Label").fill("Backup script");
  await page.getByLabel("tasks.read").check();
  await page.getByLabel("account.read").check();
  await page.getByLabel("Networks").fill("192.0.2.0/24");
  await page.getByRole("button", { name: "Create token" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Done" }).waitFor();
  await check("token-secret");
  await page.getByRole("dialog").getByRole("button", { name: "Done" }).click();
  await entry(page, "Backup script").waitFor();
  await page.evaluate(() => scrollTo(0, 0));
  await check("tokens");
  await entry(page, "Backup script").getByRole("button", { name: "Edit" }).click();
  await check("token-editor");
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  await entry(page, "Backup script").getByRole("button", { name: "Delete" }).click();
  await check("token-deletion");
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  await openAccount(page, "Ann", "Security events");
  await entry(page, "The account was created").waitFor();
  await check("events");
}

async function checkFiles(page, check) {
  await openAccount(page, "Ann", "Import and export");
  await check("files");
  await checkFile(page, "tasks.csv", "title,due_date\nPay the rent,2030-05-01\nCall Bob,tomorrow\n");
  await waitForText(page, "This file cannot be imported. Nothing was created.");
  await check("import-invalid");
  await checkFile(page, "tasks.csv", "title,due_date,colour\nPay the rent,2030-05-01,red\n");
  await waitForText(page, "The import creates 1 task.");
  await check("import-preview");
}

async function checkWebhooks(page, check) {
  await openAccount(page, "Ann", "Webhooks");
  await page.getByLabel("URL").fill(WEBHOOK_URL);
  await page.getByRole("button", { name: "Create webhook" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Done" }).waitFor();
  await check("webhook-secret");
  await page.getByRole("dialog").getByRole("button", { name: "Done" }).click();
  const press = (name) => entry(page, WEBHOOK_URL).getByRole("button", { name: `${name}: ` }).click();
  await press("Test");
  await waitForText(page, "The test failed");
  await press("Pause");
  await entry(page, WEBHOOK_URL).getByText("paused", { exact: true }).waitFor();
  await press("Attempts");
  await page.getByRole("heading", { name: "Attempts" }).waitFor();
  await check("webhooks");
  await press("Delete");
  await check("webhook-deletion");
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
}

async function addTestData(page) {
  for (const title of ["Move house", "Groceries"]) {
    await showSidebar(page);
    await page.getByLabel("Name of the new list").fill(title);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: title }).waitFor();
  }
  await addTask(page, "Oat milk");
  await showSidebar(page);
  await page.locator(".lists a", { hasText: "Move house" }).click();
  await page.getByRole("heading", { name: "Move house" }).waitFor();
  const titles = ["Book a van", "Paint the kitchen", "Tell the bank", "Give back the keys", "Measure the rooms"];
  for (const title of titles) await addTask(page, title);
  const notes = "Three and a half tonnes will do";
  const vanFields = { Due: "2030-05-01", Priority: "High", Labels: "phone", Notes: notes };
  await saveForm(await editTask(page, "Book a van", vanFields));
  await waitForTask(page, "Book a van");
  const bankFields = { Due: "2024-03-01", Priority: "Medium", Labels: "phone, letters" };
  await saveForm(await editTask(page, "Tell the bank", bankFields));
  await waitForTask(page, "Tell the bank");
  await row(page, "Paint the kitchen").getByLabel("Add a subtask to Paint the kitchen").click();
  for (const title of ["Choose a colour, not white again", "Buy brushes"]) {
    await page.getByLabel("New subtask of Paint the kitchen").fill(title);
    await page.keyboard.press("Enter");
    await waitForTask(page, title);
  }
  await page.locator(".subtask-form").getByRole("button", { name: "Cancel" }).click();
  await row(page, "Buy brushes").getByLabel("Completed: Buy brushes").check();
  await row(page, "Measure the rooms").getByLabel("Completed: Measure the rooms").check();
  await page.getByText("Completed (1)").click();
  await page.evaluate(() => scrollTo(0, 0));
}

/** Shows the sidebar, which is behind a menu button on a phone. */
async function showSidebar(page) {
  const menu = page.locator(".menu");
  if ((await menu.isVisible()) && (await menu.getAttribute("aria-expanded")) === "false") await menu.click();
}
