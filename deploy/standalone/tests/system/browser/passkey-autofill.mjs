// The login form offers passkeys where the browser fills in the email address, until the password is sent.
import { addAuthenticator, addPasskey } from "./authenticator.mjs";
import {
  openAccount, openPage, runInBrowser, signUp, waitFor, waitForLoginView, waitForTaskView, PASSWORD,
} from "./support.mjs";

const EMAIL = "ann@example.com";

await runInBrowser(async () => {
  const page = await openPage();
  await page.context().addInitScript(recordRequests);
  await page.reload();
  const authenticator = await addAuthenticator(page);
  await signUp(page, EMAIL, "Ann");
  await openAccount(page, "Ann", "Two-factor login");
  await addPasskey(page, "Laptop");

  // The authenticator selects the passkey at once, as a user does in the list of the browser. The login view may
  // disappear before the test can see it, so the test waits for the request instead.
  await page.getByRole("button", { name: "Log out", exact: true }).click();
  await waitFor("an offer", async () => (await requests(page)).length > 0);
  await waitForTaskView(page);
  const { mediation, isAborted } = await lastRequest(page);
  if (mediation !== "conditional" || isAborted) throw new Error(`not offered: ${mediation}`);

  // An offer that the user ignores does not hinder other requests.
  await authenticator.setUserPresent(false);
  const count = (await requests(page)).length;
  await page.getByRole("button", { name: "Log out", exact: true }).click();
  await waitForLoginView(page);
  await waitFor("an offer", async () => (await requests(page)).length > count);
  if ((await lastRequest(page)).isAborted) throw new Error("the offer ended before the password was sent");
  await authenticator.setUserPresent(true);
  await page.getByLabel("Email address").fill(EMAIL);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Log in", exact: true }).click();
  await page.getByRole("button", { name: "Use a passkey" }).waitFor();
  if (!(await lastRequest(page)).isAborted) throw new Error("the offer continues after the password was sent");
  await page.getByRole("button", { name: "Use a passkey" }).click();
  await waitForTaskView(page);
});

/** Records the requests of the page for a passkey. */
function recordRequests() {
  const { credentials } = navigator;
  const get = credentials.get.bind(credentials);
  globalThis.passkeyRequests = [];
  credentials.get = (options) => (globalThis.passkeyRequests.push(options), get(options));
}

function requests(page) {
  return page.evaluate(() => {
    return passkeyRequests.map(({ mediation, signal }) => ({ mediation, isAborted: signal?.aborted }));
  });
}

async function lastRequest(page) {
  return (await requests(page)).at(-1);
}
