// The header fits on a narrow phone. A time zone that the server does not know does not stop a due date. What is due today
// becomes overdue at midnight, without a reload. Search says when there is more than it shows.
import {
  addTask, editTask, openPage, row, runInBrowser, saveForm, signUp, takeScreenshot, waitForText,
} from "./support.mjs";

await runInBrowser(async () => {
  const page = await openPage({ viewport: { width: 390, height: 844 } });
  await page.clock.install({ time: "2030-05-01T23:58:00+02:00" });
  await page.reload();
  await signUp(page, "ann@example.com", "Annabelle of the very long display name");
  await expectNoOverlap(page);
  await takeScreenshot(page, "header-390");

  await page.evaluate(() => {
    const { resolvedOptions } = Intl.DateTimeFormat.prototype;
    Intl.DateTimeFormat.prototype.resolvedOptions = function () {
      return { ...resolvedOptions.call(this), timeZone: "Moon/Tranquility" };
    };
  });
  await addTask(page, "Pay the rent");
  await saveForm(await editTask(page, "Pay the rent", { Due: "2030-05-01" }));
  await row(page, "Pay the rent").getByText("due today", { exact: true }).waitFor();
  await addTask(page, "Book a van");
  await saveForm(await editTask(page, "Book a van", { Due: "2030-05-02" }));
  await row(page, "Book a van").getByText("due tomorrow", { exact: true }).waitFor();
  await page.clock.fastForward("05:00");
  await row(page, "Pay the rent").getByText("overdue: yesterday", { exact: true }).waitFor();
  await row(page, "Book a van").getByText("due today", { exact: true }).waitFor();

  await page.evaluate(async () => {
    const writes = Array.from({ length: 100 }, (_, number) => ({ create: { task: { title: `Rent ${number}` } } }));
    const [headers, body] = [{ "content-type": "application/json" }, JSON.stringify({ writes })];
    const response = await fetch("./v1/tasks:batchWrite", { method: "POST", headers, body });
    if (!response.ok) throw new Error(await response.text());
  });
  await page.getByLabel("Search all tasks").fill("rent");
  await page.getByText("There are more. These are the newest 100").waitFor();
  await page.locator("#announcer").getByText("More than 100 tasks found.").waitFor();
  await page.getByLabel("Search all tasks").fill("rent 99");
  await page.getByText("There are more.").waitFor({ state: "hidden" });
  await waitForText(page, "Rent 99");
});

/** Fails if two parts of the header overlap, or one is cut off by the edge of the window. Texts can be wider than `.brand`. */
async function expectNoOverlap(page) {
  const boxes = await page.locator(".top > :not(.brand), .top > .brand > *").evaluateAll((parts) =>
    parts.filter((part) => part.checkVisibility()).map((part) => {
      const { left, right, top, bottom } = part.getBoundingClientRect();
      return { name: part.className || part.tagName, left, right, top, bottom };
    }),
  );
  for (const [index, one] of boxes.entries()) {
    if (one.left < 0 || one.right > 390) throw new Error(`${one.name} is cut off: ${JSON.stringify(one)}`);
    for (const other of boxes.slice(index + 1)) {
      const overlaps = one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;
      if (overlaps) throw new Error(`${one.name} and ${other.name} overlap: ${JSON.stringify(boxes)}`);
    }
  }
}
