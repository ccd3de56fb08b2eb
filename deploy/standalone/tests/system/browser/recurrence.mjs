// A task recurs: the editor says in plain English what a rule means; occurrences are completed, skipped, changed and stopped.
import {
  addTask, axe, editTask, openPage, runInBrowser, saveForm, signUp, waitForText,
} from "./support.mjs";
import { DEVICES, viewChecker } from "./views.mjs";

/** Rules by texts in plain English, and texts that are not understood. */
const RULES = {
  daily: "FREQ=DAILY",
  "every other day": "FREQ=DAILY;INTERVAL=2",
  "every 2nd day": "FREQ=DAILY;INTERVAL=2",
  "Mondays and Thurs": "FREQ=WEEKLY;BYDAY=MO,TH",
  "every weekday": "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR",
  "every other Monday": "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO",
  "every 3 weeks on Monday and Friday": "FREQ=WEEKLY;INTERVAL=3;BYDAY=MO,FR",
  "the second Tuesday of the month": "FREQ=MONTHLY;BYDAY=2TU",
  "every 3 months on the last Friday": "FREQ=MONTHLY;INTERVAL=3;BYDAY=-1FR",
  "every 1st and 15th": "FREQ=MONTHLY;BYMONTHDAY=1,15",
  "every 2nd day of the month": "FREQ=MONTHLY;BYMONTHDAY=2",
  "every last day": "FREQ=MONTHLY;BYMONTHDAY=-1",
  "every 5th of May": "FREQ=YEARLY;BYMONTH=5;BYMONTHDAY=5",
  "every year on Sept 1": "FREQ=YEARLY;BYMONTH=9;BYMONTHDAY=1",
};
const UNKNOWN = ["", "every", "every 0 days", "every 32nd", "every 6th Monday", "every last", "every Monday at 9", "every marathon", "every 2 weeks every 3 days"];

await runInBrowser(async () => {
  const page = await openPage({ ...DEVICES.phone, scripts: [axe] });
  const check = viewChecker(page, "phone");
  const texts = [...Object.keys(RULES), ...UNKNOWN];
  const rules = await page.evaluate(async (texts) => {
    const { ruleOfText } = await import("./page/phrases.js");
    return texts.map((text) => ruleOfText(text));
  }, texts);
  for (const [index, text] of texts.entries()) {
    if (rules[index] !== RULES[text]) throw new Error(`${text}: ${rules[index]} instead of ${RULES[text]}`);
  }

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
  await (await edit(page)).getByRole("button", { name: "Stop repeating" }).press("Enter");
  await open(page).getByText(/repeats/).waitFor({ state: "detached" });
  await page.locator("#announcer").getByText("The task no longer repeats.").waitFor({ state: "attached" });
});

function open(page) {
  return page.locator("[aria-label='Open tasks'] .row");
}

/** Opens the editor of the open occurrence. */
async function edit(page) {
  await open(page).locator(".body").click();
  return page.locator(".editor");
}
