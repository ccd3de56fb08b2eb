// Tasks are added, edited, completed, split into subtasks, deleted and searched; two devices show the same.
import {
  addTask, editTask, logIn, openPage, row, runInBrowser, saveForm, signUp, waitForNoTask, waitForTask, waitForText,
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
});
