// Tasks are added, edited, completed, split into subtasks, deleted and searched; two devices show the same.
import {
  addTask, editTask, entry, logIn, openPage, row, runInBrowser, saveForm, signUp, waitForNoTask, waitForTask, waitForText,
} from "./support.mjs";

await runInBrowser(async () => {
  const [first, second] = [await openPage(), await openPage()];
  await signUp(first, "ann@example.com", "Ann");
  await addTask(first, "Buy milk");
  await logIn(second, "ann@example.com");
  await waitForTask(second, "Buy milk");

  await addTask(first, "Call Bob");
  await waitForTask(second, "Call Bob");

  await saveForm(await editTask(second, "Call Bob", {
    Title: "Call Bob back", Notes: "About the van", Due: "2030-05-01", Priority: "High", Labels: "phone, van",
  }));
  await waitForTask(first, "Call Bob back");
  for (const text of ["About the van", "due Wed", "high priority", "#phone", "#van"]) {
    await row(first, "Call Bob back").getByText(text).waitFor();
  }

  await expectHistory(first, "Call Bob back");

  await row(first, "Buy milk").getByLabel("Completed: Buy milk").check();
  await waitForText(second, "Completed (1)");
  await second.getByText("Completed (1)").click();
  await row(second, "Buy milk").getByLabel("Completed: Buy milk").uncheck();
  await first.locator("[aria-label='Open tasks']").getByText("Buy milk").waitFor();

  await row(first, "Buy milk").getByLabel("Add a subtask to Buy milk").click();
  await first.getByLabel("New subtask of Buy milk").fill("Oat milk");
  await first.keyboard.press("Enter");
  await second.locator(".task .subtasks").getByText("Oat milk").waitFor();

  await row(first, "Buy milk").getByLabel("Delete Buy milk").click();
  for (const title of ["Buy milk", "Oat milk"]) await waitForNoTask(second, title);
  await first.getByRole("button", { name: "Undo" }).click();
  for (const title of ["Buy milk", "Oat milk"]) await waitForTask(second, title);

  await first.getByLabel("Search all tasks").fill("VAN");
  await waitForTask(first, "Call Bob back");
  await waitForNoTask(first, "Buy milk");
  await first.getByLabel("Search all tasks").fill("#phone \"quoted");
  await waitForText(first, "Nothing was found.");
  await first.keyboard.press("Escape");
  await waitForTask(first, "Buy milk");
  await expectLabelsKept(first, "Buy milk");
});

/** Labels that contain commas, quotation marks or spaces at their ends are kept while others are added. */
async function expectLabelsKept(page, title) {
  const labels = ["a,b", 'say "c"', '"d"', " e"];
  const error = await page.evaluate(async ({ title, labels }) => {
    const { tasks } = await (await fetch("./v1/tasks")).json();
    const { id } = tasks.find((task) => task.title === title);
    const options = { method: "PATCH", headers: { "content-type": "application/json" }, body: JSON.stringify({ labels }) };
    return (await (await fetch(`./v1/tasks/${id}`, options)).json()).error;
  }, { title, labels });
  if (error) throw new Error(JSON.stringify(error));
  await row(page, title).getByText("#a,b").waitFor();
  const form = await editTask(page, title, {});
  const field = form.getByLabel("Labels");
  await field.fill(`${await field.inputValue()}, new, "f, g", , new`);
  await saveForm(form);
  const all = [...labels, "new", "f, g"];
  await row(page, title).getByText("#f, g").waitFor();
  const shown = await row(page, title).locator(".details span").allTextContents();
  if (all.some((label) => !shown.includes(`#${label}`))) throw new Error(JSON.stringify(shown));
}

/** Opens the history of a task by keyboard, and expects the changes that were made in another window. */
async function expectHistory(page, title) {
  const button = (await editTask(page, title, {})).getByRole("button", { name: "History" });
  await button.press("Enter");
  const dialog = page.getByRole("dialog", { name: `History of “${title}”` });
  const sentences = [
    "Created", "Title changed from “Call Bob” to “Call Bob back”", "Notes set to “About the van”", "Due date set to 1 May 2030",
    "Time zone set to Europe/Berlin", "Priority set to High", "Labels set to #phone #van",
  ];
  for (const sentence of sentences) await entry(page, sentence).waitFor();
  await entry(page, "Created").getByText("· you · this device").waitFor();
  await entry(page, "Priority set to High").getByText(/ · you · Chrome on/).waitFor();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  if (!(await button.evaluate((element) => element === document.activeElement))) throw new Error("the focus is lost");
  await page.locator(".editor").getByRole("button", { name: "Cancel" }).click();
}
