// A logout in one window logs out all windows of the browser and removes their content.
import { addTask, openPage, runInBrowser, signUp, waitForLoginView, waitForTask, waitForTaskView } from "./support.mjs";

await runInBrowser(async () => {
  const first = await openPage();
  await signUp(first, "ann@example.com");
  await addTask(first, "A secret");
  const second = await openPage({ beside: first });
  await waitForTaskView(second);
  await waitForTask(second, "A secret");
  await first.getByRole("button", { name: "Log out", exact: true }).click();
  await waitForLoginView(first);
  await waitForLoginView(second);
  for (const page of [first, second]) {
    if ((await page.content()).includes("A secret")) throw new Error("the task is still in the page");
  }
  await first.reload();
  await waitForLoginView(first);
});
