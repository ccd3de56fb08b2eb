// Access tokens, which expire after seconds here, are renewed without the user noticing.
import { addTask, logIn, openPage, runInBrowser, signUp, waitForTask } from "./support.mjs";

await runInBrowser(async () => {
  const [first, second] = [await openPage(), await openPage()];
  await signUp(first, "ann@example.com");
  await logIn(second, "ann@example.com");
  const navigations = [];
  first.on("framenavigated", (frame) => navigations.push(frame.url()));
  for (const title of ["After one token", "After another"]) {
    await first.waitForResponse(setsAccessCookie);
    await addTask(first, title);
    await waitForTask(second, title);
  }
  if (navigations.length) throw new Error(`the page navigated to ${navigations}`);
  await addTask(second, "And back");
  await waitForTask(first, "And back");
  const cookies = await first.evaluate(() => document.cookie);
  if (cookies) throw new Error(`a script can read ${cookies}`);
});

async function setsAccessCookie(response) {
  return /taskey_access=[^;]/.test((await response.allHeaders())["set-cookie"] ?? "");
}
