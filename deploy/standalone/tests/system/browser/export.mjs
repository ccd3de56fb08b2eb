// The account view saves a file with all pages of the export of the account.
import { readFileSync } from "node:fs";
import { openAccount, openPage, runInBrowser, signUp } from "./support.mjs";

await runInBrowser(async () => {
  const page = await openPage();
  await signUp(page, "ann@example.com", "Ann");
  // Two pages with one event each: the login and the sign-up.
  await page.route("**/v1/me:export*", (route) => {
    const url = new URL(route.request().url());
    url.searchParams.set("page_size", "1");
    return route.continue({ url: url.href });
  });
  await openAccount(page, "Ann");
  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download my data" }).click();
  const file = await download;
  if (file.suggestedFilename() !== "taskey-account.json") throw new Error(file.suggestedFilename());
  const { user, sessions, events } = JSON.parse(readFileSync(await file.path(), "utf8"));
  const kinds = events.map((event) => event.kind).join(" ");
  if (user.email !== "ann@example.com" || sessions.length !== 1) throw new Error(JSON.stringify({ user, sessions }));
  if (kinds !== "KIND_LOGIN KIND_SIGN_UP") throw new Error(kinds);
});
