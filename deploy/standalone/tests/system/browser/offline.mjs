// An offline page shows a banner; when it is online again, it catches up with missed changes.
import { addTask, logIn, openPage, runInBrowser, signUp, waitForTask, waitForText } from "./support.mjs";

await runInBrowser(async () => {
  const [first, second] = [await openPage(), await openPage()];
  await signUp(first, "ann@example.com");
  await addTask(first, "Before");
  await logIn(second, "ann@example.com");
  await waitForTask(second, "Before");
  await first.context().setOffline(true);
  await waitForText(first, "You are offline.");
  await first.getByLabel("New task", { exact: true }).fill("Not yet");
  await first.keyboard.press("Enter");
  await waitForText(first, "could not be saved");
  await addTask(second, "Meanwhile");
  await first.context().setOffline(false);
  await waitForTask(first, "Meanwhile");
  await first.locator("#banner").waitFor({ state: "hidden" });
  const newTask = first.getByLabel("New task", { exact: true });
  if ((await newTask.inputValue()) !== "Not yet") throw new Error("the typed title is lost");
  await newTask.press("Enter");
  await waitForTask(second, "Not yet");
});
