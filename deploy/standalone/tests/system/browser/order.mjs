// Tasks are moved with the arrow keys and by dragging: within a list, into another task and into another list.
import {
  addTask, logIn, openPage, row, runInBrowser, signUp, waitForNoTask, waitForOrder, waitForTask,
} from "./support.mjs";

await runInBrowser(async () => {
  const [first, second] = [await openPage(), await openPage()];
  await signUp(first, "ann@example.com");
  for (const title of ["A", "B", "C"]) await addTask(first, title);
  await logIn(second, "ann@example.com");

  await first.getByLabel("Move C", { exact: true }).focus();
  await first.keyboard.press("ArrowUp");
  await waitForOrder(second, ["A", "C", "B"]);
  await first.keyboard.press("ArrowUp");
  await waitForOrder(second, ["C", "A", "B"]);
  await first.locator("#announcer").getByText("“C” is 1 of 3.").waitFor();
  await first.keyboard.press("ArrowDown");
  await waitForOrder(second, ["A", "C", "B"]);
  await first.keyboard.press("ArrowRight");
  await second.locator(".subtasks").getByText("C", { exact: true }).waitFor();
  await first.keyboard.press("ArrowLeft");
  await waitForOrder(second, ["A", "C", "B"]);

  await drag(second, "B", row(second, "A"), 0.2);
  for (const page of [first, second]) await waitForOrder(page, ["B", "A", "C"]);
  await drag(second, "B", row(second, "C"), 0.8);
  for (const page of [first, second]) await waitForOrder(page, ["A", "C", "B"]);

  await second.getByLabel("Name of the new list").fill("Work");
  await second.keyboard.press("Enter");
  await second.getByRole("heading", { name: "Work" }).waitFor();
  await second.locator(".lists a").first().click();
  await waitForOrder(second, ["A", "C", "B"]);
  await drag(second, "A", second.locator(".lists a", { hasText: "Work" }), 0.5);
  await waitForNoTask(first, "A");
  await second.locator(".lists a", { hasText: "Work" }).click();
  await waitForTask(second, "A");
});

/** Drags a task onto an element, at a fraction of its height. */
async function drag(page, title, target, fraction) {
  await page.getByLabel(`Move ${title}`, { exact: true }).hover();
  await page.mouse.down();
  const box = await target.boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height * fraction, { steps: 5 });
  await page.mouse.up();
}
