// Markup in names and titles is shown as text in every view.
import { addTask, logIn, openPage, row, runInBrowser, signUp, waitForTask } from "./support.mjs";

const TITLE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>";

await runInBrowser(async () => {
  const page = await openPage();
  await signUp(page, "ann@example.com", TITLE);
  await addTask(page, TITLE);
  await page.getByLabel("Name of the new list").fill(TITLE);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: TITLE }).waitFor();
  await page.getByRole("button", { name: "Delete list" }).click();
  await page.getByRole("dialog").getByText(TITLE).first().waitFor();
  await page.keyboard.press("Escape");
  await page.getByLabel("Search all tasks").fill("img");
  await waitForTask(page, TITLE);
  await row(page, TITLE).locator(".remove").click();
  await page.locator(".toast").getByText(TITLE).waitFor();
  await page.getByRole("button", { name: "Undo" }).click();

  const second = await openPage();
  await logIn(second, "ann@example.com");
  await waitForTask(second, TITLE);
  for (const current of [page, second]) {
    const injected = await current.locator("img[src=x], #view script").count();
    if (injected || (await current.title()) === "owned") throw new Error("markup became part of the page");
  }
});
