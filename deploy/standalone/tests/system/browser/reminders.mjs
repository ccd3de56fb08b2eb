// Reminders of a task: they are set in the editor, fire in all windows, hidden ones as well, and are snoozed and dismissed.
import {
  addTask, axe, editTask, openPage, runInBrowser, saveForm, signUp, waitFor, waitForText,
} from "./support.mjs";
import { DEVICES, viewChecker } from "./views.mjs";

/** Records the notifications of a page. As in a new browser, the user has not yet permitted or refused them. */
function recordNotifications() {
  window.notifications = [];
  window.Notification = class extends EventTarget {
    static permission = "default";
    static async requestPermission() {
      return (this.permission = "granted");
    }
    constructor(title, { body }) {
      super();
      window.notifications.push(`${title}: ${body}`);
    }
  };
}

await runInBrowser(async () => {
  const page = await openPage({ ...DEVICES.phone, scripts: [axe] });
  const check = viewChecker(page, "phone");
  await page.context().addInitScript(recordNotifications);
  await page.reload();
  await signUp(page, "ann@example.com");
  await addTask(page, "Water the plants");
  await addTask(page, "Call Bob");

  // Reminders before the due date need one.
  const form = await editTask(page, "Water the plants", {});
  const when = form.getByLabel("When to remind me");
  const add = form.getByRole("button", { name: "Add a reminder" });
  await when.selectOption("The day before at 9:00");
  await add.press("Enter");
  await waitForText(page, "Enter a due date first, or select a time.");
  await form.getByLabel("Due").fill("2030-01-08");
  await add.press("Enter");
  await when.selectOption("A week before at 9:00");
  await add.press("Enter");
  await form.getByRole("button", { name: "Remove the reminder: A week before at 9:00" }).press("Enter");
  await when.selectOption("At a time …");
  await form.getByLabel("Time of the reminder").fill("2030-01-01T08:30");
  await add.press("Enter");
  await form.getByText("1 Jan 2030, 08:30").waitFor();

  // The user is asked after pressing a button only.
  const ask = form.getByRole("button", { name: "Show reminders as notifications of this browser" });
  await check("reminders-editor");
  await ask.press("Enter");
  await ask.waitFor({ state: "hidden" });
  await saveForm(form);
  await form.waitFor({ state: "detached" });
  const saved = await editTask(page, "Water the plants", {});
  if ((await saved.locator("[data-part=reminderList] li").count()) !== 2) throw new Error("there are not two reminders");
  await saved.getByRole("button", { name: "Cancel" }).click();

  // A reminder whose time has come fires at once, in all windows.
  const other = await openPage({ beside: page });
  await other.getByText("Call Bob").waitFor();
  const late = await editTask(page, "Call Bob", {});
  await late.getByLabel("Time of the reminder").fill("2026-01-01T08:30");
  await late.getByRole("button", { name: "Add a reminder" }).click();
  await saveForm(late);
  const fired = (window) => window.getByRole("region", { name: "Reminders" }).getByText("Call Bob");
  await fired(page).waitFor();
  await fired(other).waitFor();
  await waitFor("one notification", () => page.evaluate(() => window.notifications.join() === "Call Bob: Call Bob"));
  await check("reminders-fired");
  // What has fired before the page was loaded is listed without a notification.
  await other.reload();
  await fired(other).waitFor();
  if (await other.evaluate(() => window.notifications.length)) throw new Error("an earlier reminder is notified again");

  await page.getByRole("button", { name: "Remind me of Call Bob in 10 minutes" }).press("Enter");
  await page.locator("#announcer").getByText("You will be reminded in 10 minutes.").waitFor({ state: "attached" });
  await fired(page).waitFor({ state: "detached" });
  await fired(other).waitFor({ state: "detached" });

  // A hidden window has no stream, but looks for reminders once a minute if its user is notified.
  await other.clock.install();
  await other.evaluate(async () => {
    await Notification.requestPermission();
    Object.defineProperty(document, "hidden", { get: () => true });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  const snoozed = await editTask(page, "Call Bob", {});
  await snoozed.getByText(/^Snoozed until/).waitFor();
  await snoozed.getByRole("button", { name: /^Remove the reminder: Snoozed/ }).click();
  await snoozed.getByLabel("Time of the reminder").fill("2026-01-02T08:30");
  await snoozed.getByRole("button", { name: "Add a reminder" }).click();
  await saveForm(snoozed);
  await fired(page).waitFor();
  if (await fired(other).count()) throw new Error("a hidden window has a stream");
  await other.clock.runFor("01:01");
  await fired(other).waitFor();
  await waitFor("a notification of the hidden window", () => other.evaluate(() => window.notifications.join() === "Call Bob: Call Bob"));
  await saveForm(await editTask(page, "Call Bob", { Title: "Call Eve" }));
  await fired(page).waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Dismiss the reminder of Call Eve" }).press("Enter");
  await page.getByRole("region", { name: "Reminders" }).waitFor({ state: "hidden" });
  const count = await page.evaluate(() => window.notifications.length);
  if (count !== 2) throw new Error(`${count} notifications instead of 2`);
});
