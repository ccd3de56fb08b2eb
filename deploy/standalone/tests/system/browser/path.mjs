// A proxy serves the page under a path, and removes it from requests. Cookies are limited to the path.
import { addTask, openPage, runInBrowser, signUp, waitForLoginView, waitForTask } from "./support.mjs";

const { TASKEY_URL } = process.env;
const path = new URL(TASKEY_URL).pathname.replace(/\/$/, "");

await runInBrowser(async () => {
  const page = await openPage({ ignoreHTTPSErrors: true });
  await signUp(page, "ann@example.com");
  await addTask(page, "Buy milk");
  await page.reload();
  await waitForTask(page, "Buy milk");

  const context = page.context();
  const cookies = await context.cookies();
  const areLimited = cookies.every((cookie) => {
    return cookie.path === path && cookie.secure && cookie.httpOnly && cookie.name.startsWith("__Secure-");
  });
  if (cookies.length !== 2 || !areLimited) throw new Error(`cookies: ${JSON.stringify(cookies)}`);
  const elsewhere = await context.cookies(new URL("/", TASKEY_URL).href);
  if (elsewhere.length) throw new Error("other paths of the host receive the tokens");

  await page.goto(TASKEY_URL.replace(/\/$/, ""));
  await waitForTask(page, "Buy milk");
  if (page.url() !== TASKEY_URL) throw new Error(`not redirected: ${page.url()}`);

  await page.getByRole("button", { name: "Log out", exact: true }).click();
  await waitForLoginView(page);
  if ((await context.cookies()).length) throw new Error("the cookies were not deleted");
  await page.reload();
  await waitForLoginView(page);
});
