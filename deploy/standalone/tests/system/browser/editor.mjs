// An open editor keeps what was typed, and the focus, while its task is completed, moved and deleted elsewhere, and while the
// user searches.
import {
  addTask, editTask, logIn, openPage, row, runInBrowser, saveForm, signUp, takeScreenshot, waitFor, waitForNoTask,
  waitForTask, waitForText,
} from "./support.mjs";

await runInBrowser(async () => {
  const [first, second] = [await openPage(), await openPage()];
  await signUp(first, "ann@example.com");
  for (const title of ["Paint the hall", "Call Bob", "Buy milk"]) await addTask(first, title);
  await logIn(second, "ann@example.com");
  await second.getByLabel("Name of the new list").fill("Work");
  await second.keyboard.press("Enter");
  await second.getByRole("heading", { name: "Work" }).waitFor();
  await second.locator(".lists a").first().click();

  const completed = await edit(first, "Paint the hall");
  await row(second, "Paint the hall").getByLabel("Completed: Paint the hall").check();
  await waitForText(first, "Completed (1)");
  await expectTyped(first, completed);
  await saveForm(completed);
  await waitForText(first, "changed elsewhere while you were editing it");
  await saveForm(completed);
  await second.getByText("Completed (1)").click();
  await row(second, "Paint the hall").getByText("Not lost").waitFor();

  const moved = await edit(first, "Call Bob");
  await saveForm(await editTask(second, "Call Bob", { List: "Work" }));
  await waitForText(first, "This task was moved or deleted elsewhere");
  await expectTyped(first, moved);
  await takeScreenshot(first, "editor-kept");
  await saveForm(moved);
  await waitForText(first, "changed elsewhere while you were editing it");
  await saveForm(moved);
  await second.locator(".lists a", { hasText: "Work" }).click();
  await row(second, "Call Bob").getByText("Not lost").waitFor();

  // The list of the view is deleted elsewhere, with the task.
  await first.locator(".lists a", { hasText: "Work" }).click();
  await waitForTask(first, "Call Bob");
  const deleted = await edit(first, "Call Bob", "Still here");
  await second.getByRole("button", { name: "Delete list" }).click();
  await second.getByLabel("Delete them too").check();
  await second.getByRole("dialog").getByRole("button", { name: "Delete list" }).click();
  await waitForTask(first, "Buy milk");
  await expectTyped(first, deleted, "Still here");
  await saveForm(deleted);
  await waitForText(first, "This task no longer exists.");
  await deleted.getByRole("button", { name: "Cancel" }).click();
  await waitForNoTask(first, "Call Bob");

  await searchWhileEditing(first);

  // Only the user's own navigation closes an editor.
  const own = await edit(first, "Buy milk");
  await first.locator(".account-link").click();
  await own.waitFor({ state: "detached" });
});

/** Searches while a task is edited. There is always one editor: in the row of the task, or above the results without it. */
async function searchWhileEditing(page) {
  await addTask(page, "Water the plants");
  const form = await edit(page, "Buy milk");
  for (const [query, found] of [["plants", "Water the plants"], ["milk", ""], ["nothing", ""], ["", "Water the plants"]]) {
    await page.getByLabel("Search all tasks").fill(query);
    if (query) await page.getByRole("heading", { name: `Search: ${query}` }).waitFor();
    if (found) await waitForTask(page, found);
    const isInRow = query === "milk" || !query;
    await page.locator(isInRow ? ".task > .editor" : ".page > .editor").waitFor();
    if (await form.locator(".error").textContent()) throw new Error(`${query}: ${await form.locator(".error").textContent()}`);
    if ((await form.getByLabel("Notes").inputValue()) !== "Not lost") throw new Error(`${query}: the text is lost`);
    const rows = await row(page, "Buy milk").locator("visible=true").count();
    if (rows) throw new Error(`${query}: the row is shown beside the editor`);
  }
  await saveForm(form);
  await form.waitFor({ state: "detached" });
  await row(page, "Buy milk").getByText("Not lost").waitFor();
}

/** Opens the editor of a task, and types notes without saving them. */
async function edit(page, title, notes = "Not lost") {
  const form = await editTask(page, title, {});
  await form.getByLabel("Notes").fill(notes);
  return form;
}

async function expectTyped(page, form, notes = "Not lost") {
  await form.waitFor();
  await waitFor("the editor has the focus and the typed text", async () =>
    (await form.getByLabel("Notes").inputValue()) === notes &&
    (await page.evaluate(() => document.activeElement.name)) === "notes",
  );
}
