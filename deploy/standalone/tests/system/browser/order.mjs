// Tasks are moved by the arrow keys and by dragging, beside one another, into one another and into a list.
import { add, inBrowser, logIn, open, row, see, seeInOrder, seeNot, signUp } from "./support.mjs";

await inBrowser(async () => {
  const [one, other] = [await open(), await open()];
  await signUp(one, "ann@example.com");
  for (const title of ["A", "B", "C"]) await add(one, title);
  await logIn(other, "ann@example.com");

  await one.getByLabel("Move C", { exact: true }).focus();
  await one.keyboard.press("ArrowUp");
  await seeInOrder(other, ["A", "C", "B"]);
  await one.keyboard.press("ArrowUp");
  await seeInOrder(other, ["C", "A", "B"]);
  await one.locator("#announcer").getByText("“C” is 1 of 3.").waitFor();
  await one.keyboard.press("ArrowDown");
  await seeInOrder(other, ["A", "C", "B"]);
  await one.keyboard.press("ArrowRight");
  await other.locator(".parts").getByText("C", { exact: true }).waitFor();
  await one.keyboard.press("ArrowLeft");
  await seeInOrder(other, ["A", "C", "B"]);

  await drag(other, "B", row(other, "A"), 0.2);
  await seeInOrder(one, ["B", "A", "C"]);
  await drag(other, "B", row(other, "C"), 0.8);
  await seeInOrder(one, ["A", "C", "B"]);

  await other.getByLabel("Name of the new list").fill("Work");
  await other.keyboard.press("Enter");
  await other.getByRole("heading", { name: "Work" }).waitFor();
  await other.locator(".lists a").first().click();
  await drag(other, "A", other.locator(".lists a", { hasText: "Work" }), 0.5);
  await seeNot(one, "A");
  await other.locator(".lists a", { hasText: "Work" }).click();
  await see(other, "A");
});

/** Drags a task to a point of an element, so far down from its top. */
async function drag(page, title, target, down) {
  await page.getByLabel(`Move ${title}`, { exact: true }).hover();
  await page.mouse.down();
  const box = await target.boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height * down, { steps: 5 });
  await page.mouse.up();
}
