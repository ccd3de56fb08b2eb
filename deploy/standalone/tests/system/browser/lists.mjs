// Lists are made, renamed and deleted; their tasks go along, or move.
import { add, edit, entered, inBrowser, open, read, save, see, seeNot, signUp } from "./support.mjs";

await inBrowser(async () => {
  const page = await open();
  await signUp(page, "ann@example.com");
  const home = await page.getByRole("heading", { level: 1 }).textContent();

  await make(page, "Work");
  await add(page, "Write the report");
  await save(await edit(page, "Write the report", { List: home }));
  await seeNot(page, "Write the report");
  await page.locator(".lists a", { hasText: home }).click();
  await see(page, "Write the report");

  await page.locator(".lists a", { hasText: "Work" }).click();
  await add(page, "Book a flight");
  await page.getByRole("button", { name: "Rename" }).click();
  await page.getByRole("dialog").getByLabel("Name").fill("Office");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Office" }).waitFor();

  await page.getByRole("button", { name: "Delete list" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete list" }).click();
  await page.getByRole("heading", { name: home }).waitFor();
  await see(page, "Book a flight");

  await make(page, "Old");
  await add(page, "Not any more");
  await page.getByRole("button", { name: "Delete list" }).click();
  await page.getByLabel("Delete them, too").check();
  await page.getByRole("dialog").getByRole("button", { name: "Delete list" }).click();
  await page.getByRole("heading", { name: home }).waitFor();
  await page.getByLabel("Search all tasks").fill("any");
  await read(page, "Nothing was found.");
});

async function make(page, title) {
  await page.getByLabel("Name of the new list").fill(title);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: title }).waitFor();
  await entered(page);
}
