// A task recurs: the editor says in plain English what a rule means; occurrences are completed, skipped, changed and stopped.
import {
  addTask, axe, editTask, entry, openPage, runInBrowser, saveForm, signUp, waitForText,
} from "./support.mjs";
import { DEVICES, viewChecker } from "./views.mjs";

await runInBrowser(async () => {
  const page = await openPage({ ...DEVICES.phone, scripts: [axe] });
  const check = viewChecker(page, "phone");
  await signUp(page, "ann@example.com");
  await addTask(page, "Pay the rent");

  const form = await editTask(page, "Pay the rent", { Due: "2030-01-08" });
  await form.getByLabel("Repeats").selectOption("In words or by a rule");
  await waitForText(page, "For example: every 2nd Tuesday, every 3 weeks on Monday and Friday, every 15 March.");
  await form.locator("[name=rrule]").fill("every 2nd Tuesday");
  await waitForText(page, "Every month on the 2nd Tuesday: 8 Jan 2030, 12 Feb 2030, 12 Mar 2030, …");
  await check("recurrence-words");
  await form.locator("[name=rrule]").fill("FREQ=SECONDLY");
  await waitForText(page, "Column 6: FREQ must be one of DAILY, WEEKLY, MONTHLY, YEARLY.");
  await saveForm(form);
  await form.locator("[name=rrule][aria-invalid]").waitFor();
  await form.getByLabel("Repeats").selectOption("Weekly");
  await form.getByLabel("Wed", { exact: true }).check();
  await form.locator("[name=interval]").fill("2");
  await waitForText(page, "Every 2 weeks on Wednesday: 9 Jan 2030, 23 Jan 2030, 6 Feb 2030, …");
  await check("recurrence-weekly");
  await form.getByLabel("Repeats").selectOption("Monthly");
  await form.locator("[name=interval]").fill("1");
  await form.locator("[name=monthDay]").selectOption("The 2nd Tuesday");
  await waitForText(page, "Every month on the 2nd Tuesday: 8 Jan 2030, 12 Feb 2030, 12 Mar 2030, …");
  await saveForm(form);
  await open(page).getByText("repeats every month on the 2nd Tuesday").waitFor();

  await open(page).getByLabel("Completed: Pay the rent").check();
  await waitForText(page, "Completed (1)");
  await open(page).getByText(/12 Feb 2030/).waitFor();

  // An editor shows the fields from which the rule was made, and can change one occurrence only.
  const next = await edit(page);
  if ((await next.locator("[name=monthDay]").inputValue()) !== "2TU") throw new Error("the day of the month is not shown");
  await next.locator("[name=scope]").selectOption("Only this one");
  await next.getByLabel("Notes").fill("In cash");
  await check("recurrence-occurrence");
  await saveForm(next);
  await open(page).getByText("In cash").waitFor();

  await (await edit(page)).getByRole("button", { name: "Skip this date" }).press("Enter");
  await open(page).getByText(/12 Mar 2030/).waitFor();
  await open(page).getByText("In cash").waitFor({ state: "detached" });
  await expectHistory(page);
  await (await edit(page)).getByRole("button", { name: "Stop repeating" }).press("Enter");
  await open(page).getByText(/repeats/).waitFor({ state: "detached" });
  await page.locator("#announcer").getByText("The task no longer repeats.").waitFor({ state: "attached" });
});

/** Expects a history of sentences, without raw data. */
async function expectHistory(page) {
  const form = await edit(page);
  await form.getByLabel("Repeats").selectOption("In words or by a rule");
  await form.locator("[name=rrule]").fill("every other Monday");
  await form.getByLabel("If completed late").selectOption("Count from that day");
  await form.getByLabel("When to remind me").selectOption("The day before at 9:00");
  await form.getByRole("button", { name: "Add a reminder" }).press("Enter");
  await saveForm(form);
  await form.waitFor({ state: "detached" });
  await (await edit(page)).getByRole("button", { name: "History" }).press("Enter");
  for (const sentence of [
    "Recurrence changed from “every month on the 2nd Tuesday” to “every 2 weeks on Monday, counted from the day of completion”",
    "Reminders set to “The day before at 9:00”", "Date in the series changed from 12 Feb 2030 to 12 Mar 2030",
  ]) await entry(page, sentence).waitFor();
  const sentences = await page.locator("dialog .entries strong").allTextContents();
  const raw = sentences.filter((sentence) => /[{[_]|[0-9a-f]{8}-|FREQ|\d{4}-\d\d/.test(sentence));
  if (raw.length) throw new Error(JSON.stringify(raw));
  await page.getByRole("button", { name: "Close" }).click();
  await page.locator(".editor").getByRole("button", { name: "Cancel" }).click();
}

function open(page) {
  return page.locator("[aria-label='Open tasks'] .row");
}

/** Opens the editor of the open occurrence. */
async function edit(page) {
  await open(page).locator(".body").click();
  return page.locator(".editor");
}
