// While a service is down, the page shows a banner and retries after the time in `Retry-After`.
import { addTask, openPage, runInBrowser, signUp, waitForTask, waitForText } from "./support.mjs";

const UNAVAILABLE = {
  error: { code: 503, status: "UNAVAILABLE", message: "the service cannot be reached", details: [] },
};

await runInBrowser(async () => {
  const page = await openPage();
  await signUp(page, "ann@example.com");
  await addTask(page, "Before");
  let requests = 0;
  await page.route(/\/v1\/(tasks|lists)/, (route) => {
    requests += 1;
    return route.fulfill({ status: 503, headers: { "retry-after": "1" }, json: UNAVAILABLE });
  });
  await page.reload();
  await waitForText(page, "Part of the service is down");
  if (!requests) throw new Error("no request was intercepted");
  await page.unroute(/\/v1\/(tasks|lists)/);
  await waitForTask(page, "Before");
  await page.locator("#banner").waitFor({ state: "hidden" });
});
