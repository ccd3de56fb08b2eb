// Completing a task asks whether to complete its open subtasks too; another window shows the result.
import {
  addTask, logIn, openPage, row, runInBrowser, signUp, takeScreenshot, waitFor, waitForTask, waitForText,
} from "./support.mjs";

await runInBrowser(async () => {
  const [first, second] = [await openPage(), await openPage()];
  await signUp(first, "ann@example.com");
  await addTask(first, "Move house");
  for (const [parent, title] of [["Move house", "Pack"], ["Pack", "Books"]]) {
    await row(first, parent).getByLabel(`Add a subtask to ${parent}`).click();
    await first.getByLabel(`New subtask of ${parent}`).fill(title);
    await first.keyboard.press("Enter");
    await waitForTask(first, title);
    await first.getByRole("button", { name: "Cancel" }).click();
  }
  await logIn(second, "ann@example.com");
  await waitForTask(second, "Books");

  const isDone = (page, title) => page.getByLabel(`Completed: ${title}`, { exact: true }).isChecked();
  await complete(first, "Move house");
  await first.getByRole("dialog").getByText("2 of its subtasks are open.").waitFor();
  await takeScreenshot(first, "complete-subtasks");
  await first.keyboard.press("Escape");
  await first.getByRole("dialog").waitFor({ state: "detached" });
  await waitFor("the task stays open, because the dialog was cancelled", async () => !(await isDone(first, "Move house")));

  await complete(first, "Pack");
  await first.getByRole("dialog").getByText("One of its subtasks is open.").waitFor();
  await first.getByRole("button", { name: "Only this task" }).click();
  await waitFor("only the task is completed", async () => (await isDone(second, "Pack")) && !(await isDone(second, "Books")));

  await complete(first, "Move house");
  await first.getByRole("button", { name: "Complete them too" }).click();
  await waitForText(second, "Completed (1)");
  await second.getByText("Completed (1)").click();
  for (const title of ["Move house", "Pack", "Books"]) {
    await waitFor(`${title} is completed`, () => isDone(second, title));
  }

  // Nothing is asked about a task without open subtasks.
  await addTask(first, "Buy milk");
  await complete(first, "Buy milk");
  await waitForText(second, "Completed (2)");
});

async function complete(page, title) {
  await row(page, title).getByLabel(`Completed: ${title}`, { exact: true }).click();
}
