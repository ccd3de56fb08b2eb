// Lists are created, renamed and deleted; their tasks are moved or deleted with them. Another window follows without
// loading the lists again.
import {
  addTask, editTask, logIn, openPage, runInBrowser, saveForm, signUp, waitForNoTask, waitForTask, waitForTaskView,
  waitForText,
} from "./support.mjs";

await runInBrowser(async () => {
  const page = await openPage();
  await signUp(page, "ann@example.com");
  const home = await page.getByRole("heading", { level: 1 }).textContent();

  const other = await openPage();
  await logIn(other, "ann@example.com");
  other.on("request", (request) => {
    if (/\/v1\/lists/.test(request.url())) throw new Error("the lists are loaded again");
  });

  await createList(page, "Work");
  await listLink(other, "Work").waitFor();
  await addTask(page, "Write the report");
  await saveForm(await editTask(page, "Write the report", { List: home }));
  await waitForNoTask(page, "Write the report");
  await page.locator(".lists a", { hasText: home }).click();
  await waitForTask(page, "Write the report");

  await page.locator(".lists a", { hasText: "Work" }).click();
  // Until then, a new task would be one of the list before.
  await page.getByRole("heading", { name: "Work" }).waitFor();
  await addTask(page, "Book a flight");
  await page.getByRole("button", { name: "Rename" }).click();
  await page.getByRole("dialog").getByLabel("Name").fill("Office");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Office" }).waitFor();
  await listLink(other, "Office").waitFor();
  await listLink(other, "Office").click();
  await waitForTask(other, "Book a flight");

  await page.getByRole("button", { name: "Delete list" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete list" }).click();
  await page.getByRole("heading", { name: home }).waitFor();
  await waitForTask(page, "Book a flight");
  await listLink(other, "Office").waitFor({ state: "detached" });
  await other.getByRole("heading", { name: home }).waitFor();
  await waitForTask(other, "Book a flight");

  await createList(page, "Old");
  await addTask(page, "Not any more");
  await page.getByRole("button", { name: "Delete list" }).click();
  await page.getByLabel("Delete them too").check();
  await page.getByRole("dialog").getByRole("button", { name: "Delete list" }).click();
  await page.getByRole("heading", { name: home }).waitFor();
  await page.getByLabel("Search all tasks").fill("any");
  await waitForText(page, "Nothing was found.");
});

function listLink(page, title) {
  return page.locator(".lists a", { hasText: title });
}

async function createList(page, title) {
  await page.getByLabel("Name of the new list").fill(title);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: title }).waitFor();
  await waitForTaskView(page);
}
