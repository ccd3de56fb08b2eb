// While a service is down, the page says so and tries again when it is told to.
import { add, inBrowser, open, read, see, signUp } from "./support.mjs";

const DOWN = { error: { code: 503, status: "UNAVAILABLE", message: "the service cannot be reached", details: [] } };

await inBrowser(async () => {
  const page = await open();
  await signUp(page, "ann@example.com");
  await add(page, "Before");
  let asked = 0;
  await page.route(/\/v1\/(tasks|lists)/, (route) => {
    asked += 1;
    return route.fulfill({ status: 503, headers: { "retry-after": "1" }, json: DOWN });
  });
  await page.reload();
  await read(page, "Part of the service is down");
  if (!asked) throw new Error("nothing was asked");
  await page.unroute(/\/v1\/(tasks|lists)/);
  await see(page, "Before");
  await page.locator("#banner").waitFor({ state: "hidden" });
});
