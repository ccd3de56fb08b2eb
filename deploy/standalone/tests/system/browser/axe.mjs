// Each view, light, dark and on a phone, is without what axe can find; a picture of each is kept.
import { add, axe, edit, inBrowser, open, picture, read, row, save, see, signUp } from "./support.mjs";

const WAYS = {
  light: { colorScheme: "light", viewport: { width: 1100, height: 760 } },
  dark: { colorScheme: "dark", viewport: { width: 1100, height: 760 } },
  phone: { colorScheme: "light", viewport: { width: 390, height: 780 }, hasTouch: true, isMobile: true },
};

await inBrowser(async () => {
  for (const [way, options] of Object.entries(WAYS)) await look(way, options);
});

async function look(way, options) {
  const page = await open({ ...options, scripts: [axe] });
  const judge = async (view) => {
    await picture(page, `${view}-${way}`);
    const { violations } = await page.evaluate(() => globalThis.axe.run(document));
    if (violations.length) throw new Error(`${view}, ${way}: ${JSON.stringify(violations.map(({ id, nodes }) => [id, nodes.map((node) => [node.html, node.failureSummary])]), null, 1)}`);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (overflow > 0) throw new Error(`${view}, ${way}: ${overflow} px too wide`);
  };
  await page.getByRole("heading", { name: "Log in" }).waitFor();
  await judge("login");
  await page.getByRole("button", { name: "Create an account" }).click();
  await judge("signup");
  await page.getByRole("button", { name: "Log in" }).click();
  await signUp(page, `ann-${way}@example.com`, "Ann");
  await read(page, "Nothing to do here yet.");
  await judge("empty");
  await furnish(page);
  await judge("tasks");
  const form = await edit(page, "Book a van", {});
  await judge("editor");
  await form.getByRole("button", { name: "Cancel" }).click();
  await showSide(page);
  await judge("lists");
  await page.locator(".lists a", { hasText: "Move house" }).click();
  await page.getByRole("button", { name: "Delete list" }).click();
  await judge("dialog");
  await page.keyboard.press("Escape");
  await row(page, "Tell the bank").getByLabel("Delete Tell the bank").click();
  await read(page, "Deleted “Tell the bank”.");
  await judge("toast");
  await page.getByLabel("Search all tasks").fill("an");
  await see(page, "Book a van");
  await judge("search");
  await page.getByRole("link", { name: "Ann" }).click();
  await page.locator(".sessions li").first().waitFor();
  await judge("account");
  await page.context().setOffline(true);
  await read(page, "You are offline.");
  await judge("offline");
}

async function furnish(page) {
  for (const title of ["Move house", "Groceries"]) {
    await showSide(page);
    await page.getByLabel("Name of the new list").fill(title);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: title }).waitFor();
  }
  await add(page, "Oat milk");
  await showSide(page);
  await page.locator(".lists a", { hasText: "Move house" }).click();
  await page.getByRole("heading", { name: "Move house" }).waitFor();
  for (const title of ["Book a van", "Paint the kitchen", "Tell the bank", "Give back the keys", "Measure the rooms"]) await add(page, title);
  await save(await edit(page, "Book a van", { Due: "2030-05-01", Priority: "High", Labels: "phone", Notes: "Three and a half tonnes will do" }));
  await see(page, "Book a van");
  await save(await edit(page, "Tell the bank", { Due: "2024-03-01", Priority: "Medium", Labels: "phone, letters" }));
  await see(page, "Tell the bank");
  await row(page, "Paint the kitchen").getByLabel("Add a part to Paint the kitchen").click();
  for (const title of ["Choose a colour, not white again", "Buy brushes"]) {
    await page.getByLabel("New part of Paint the kitchen").fill(title);
    await page.keyboard.press("Enter");
    await see(page, title);
  }
  await page.locator(".part-form").getByRole("button", { name: "Cancel" }).click();
  await row(page, "Buy brushes").getByLabel("Completed: Buy brushes").check();
  await row(page, "Measure the rooms").getByLabel("Completed: Measure the rooms").check();
  await page.getByText("Completed (1)").click();
  await page.evaluate(() => scrollTo(0, 0));
}

/** On a phone the lists are behind a button. */
async function showSide(page) {
  const menu = page.locator(".menu");
  if ((await menu.isVisible()) && (await menu.getAttribute("aria-expanded")) === "false") await menu.click();
}
