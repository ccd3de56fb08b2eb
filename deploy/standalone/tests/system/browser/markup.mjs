// What people write is shown as they wrote it, wherever it is shown.
import { add, inBrowser, logIn, open, row, see, signUp } from "./support.mjs";

const TITLE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>";

await inBrowser(async () => {
  const page = await open();
  await signUp(page, "ann@example.com", TITLE);
  await add(page, TITLE);
  await page.getByLabel("Name of the new list").fill(TITLE);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: TITLE }).waitFor();
  await page.getByRole("button", { name: "Delete list" }).click();
  await page.getByRole("dialog").getByText(TITLE).first().waitFor();
  await page.keyboard.press("Escape");
  await page.getByLabel("Search all tasks").fill("img");
  await see(page, TITLE);
  await row(page, TITLE).locator(".remove").click();
  await page.locator(".toast").getByText(TITLE).waitFor();
  await page.getByRole("button", { name: "Undo" }).click();

  const other = await open();
  await logIn(other, "ann@example.com");
  await see(other, TITLE);
  for (const window of [page, other]) {
    const injected = await window.locator("img[src=x], #view script").count();
    if (injected || (await window.title()) === "owned") throw new Error("markup became part of the page");
  }
});
