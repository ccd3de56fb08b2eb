// Security events are sentences, and further pages are loaded on request.
import { entry, openAccount, openPage, runInBrowser, signUp, waitForText } from "./support.mjs";

const TOKENS = 15;

await runInBrowser(async () => {
  const page = await openPage();
  await signUp(page, "ann@example.com", "Ann");
  await page.evaluate(createAndDeleteTokens, TOKENS);
  await openAccount(page, "Ann");
  const passwordForm = page.locator("form", { hasText: "Change password" });
  await passwordForm.getByLabel("Current password").fill("not the current password");
  await passwordForm.getByLabel("New password").fill("another staple battery horse");
  await passwordForm.getByRole("button").click();
  await waitForText(page, "That is not your current password.");

  await openAccount(page, "Ann", "Security events");
  const wrongPassword = entry(page, "A wrong password was sent to change the password");
  await wrongPassword.getByText(/127\.0\.0\.1 · Chrome on Linux/).waitFor();
  await entry(page, "An access token was created: tasks.read tasks.write").first().waitFor();
  const items = page.locator(".entries li");
  if ((await items.count()) !== 20) throw new Error(`${await items.count()} events on the first page`);
  await page.getByRole("button", { name: "Show more" }).click();
  await entry(page, "A device logged in").waitFor();
  await entry(page, "The account was created").waitFor();
  // A wrong password, the login, the sign-up, and two events for each token.
  if ((await items.count()) !== 3 + 2 * TOKENS) throw new Error(`${await items.count()} events on two pages`);
  const focused = await items.nth(20).evaluate((item) => item === document.activeElement);
  if (!focused) throw new Error("the first item of the second page does not have the focus");
  await page.getByRole("button", { name: "Show more" }).waitFor({ state: "hidden" });

  await page.route("**/v1/me/securityEvents?*", (route) => {
    const common = { details: {}, userAgent: "curl/8", createTime: "2026-11-30T00:00:00Z" };
    const exchange = { kind: "KIND_TOKEN_EXCHANGED", details: { scopes: "tasks.read" }, userId: "1", actorId: "2" };
    const events = [{ ...common, kind: "KIND_MOON_PHASE_CHANGED" }, { ...common, ...exchange }];
    return route.fulfill({ json: { events, nextPageToken: "" } });
  });
  await openAccount(page, "Ann");
  await openAccount(page, "Ann", "Security events");
  await entry(page, "Moon phase changed").getByText("curl/8").waitFor();
  await entry(page, "A service got a token to act for the account: tasks.read").getByText("by a service").waitFor();

  await page.route("**/v1/me/securityEvents?*", (route) => route.fulfill({ status: 500, json: {} }));
  await openAccount(page, "Ann");
  await openAccount(page, "Ann", "Security events");
  await page.locator(".account [role=alert]", { hasText: /./ }).waitFor();
});

async function createAndDeleteTokens(count) {
  const send = async (method, path, body) => {
    const headers = { "content-type": "application/json" };
    const response = await fetch(`v1/me/personalAccessTokens${path}`, { method, headers, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(await response.text());
    return response.json();
  };
  for (let index = 0; index < count; index++) {
    const { id } = await send("POST", "", { label: `Token ${index}`, scopes: ["tasks.read", "tasks.write"] });
    await send("DELETE", `/${id}`);
  }
}
