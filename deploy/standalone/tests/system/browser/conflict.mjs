// Two windows edit the same task: the second save reports the conflict, and saving again keeps both changes.
import {
  addTask, editTask, logIn, openPage, row, runInBrowser, saveForm, signUp, waitForTask, waitForText,
} from "./support.mjs";

await runInBrowser(async () => {
  const [first, second] = [await openPage(), await openPage()];
  await signUp(first, "ann@example.com");
  await addTask(first, "Paint the kitchen");
  await logIn(second, "ann@example.com");
  await waitForTask(second, "Paint the kitchen");

  const form = await editTask(first, "Paint the kitchen", { Notes: "Not white again" });
  await saveForm(await editTask(second, "Paint the kitchen", { Title: "Paint the hall" }));
  await waitForTask(second, "Paint the hall");
  await saveForm(form);
  await waitForText(first, "changed elsewhere while you were editing it; its title is now “Paint the hall”");
  await saveForm(form);
  await waitForTask(first, "Paint the hall");
  await row(second, "Paint the hall").getByText("Not white again").waitFor();
});
