// Tasks are added, edited, completed, split, deleted and found; two devices show the same.
import { add, edit, inBrowser, logIn, open, read, row, save, see, seeNot, signUp } from "./support.mjs";

await inBrowser(async () => {
  const [one, other] = [await open(), await open()];
  await signUp(one, "ann@example.com", "Ann");
  await add(one, "Buy milk");
  await logIn(other, "ann@example.com");
  await see(other, "Buy milk");

  await add(one, "Call Bob");
  await see(other, "Call Bob");

  await save(await edit(other, "Call Bob", {
    Title: "Call Bob back", Notes: "About the van", Due: "2030-05-01", Priority: "High", Labels: "phone, van",
  }));
  await see(one, "Call Bob back");
  for (const text of ["About the van", "due Wed", "high priority", "#phone", "#van"]) {
    await row(one, "Call Bob back").getByText(text).waitFor();
  }

  await row(one, "Buy milk").getByLabel("Completed: Buy milk").check();
  await read(other, "Completed (1)");
  await other.getByText("Completed (1)").click();
  await row(other, "Buy milk").getByLabel("Completed: Buy milk").uncheck();
  await one.locator("[aria-label='Open tasks']").getByText("Buy milk").waitFor();

  await row(one, "Buy milk").getByLabel("Add a part to Buy milk").click();
  await one.getByLabel("New part of Buy milk").fill("Oat milk");
  await one.keyboard.press("Enter");
  await other.locator(".task .parts").getByText("Oat milk").waitFor();

  await row(one, "Buy milk").getByLabel("Delete Buy milk").click();
  for (const title of ["Buy milk", "Oat milk"]) await seeNot(other, title);
  await one.getByRole("button", { name: "Undo" }).click();
  for (const title of ["Buy milk", "Oat milk"]) await see(other, title);

  await one.getByLabel("Search all tasks").fill("VAN");
  await see(one, "Call Bob back");
  await seeNot(one, "Buy milk");
  await one.getByLabel("Search all tasks").fill("#phone \"quoted");
  await read(one, "Nothing was found.");
  await one.keyboard.press("Escape");
  await see(one, "Buy milk");
});
