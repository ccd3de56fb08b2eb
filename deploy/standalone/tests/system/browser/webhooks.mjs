// Webhooks are created, tested, paused by the server, resumed, rotated and deleted.
import { createHmac } from "node:crypto";
import { createServer } from "node:http";
import { addTask, entry, openAccount, openPage, runInBrowser, signUp, waitFor, waitForText } from "./support.mjs";

const received = [];
let status = 200;
const receiver = createServer(async (request, response) => {
  const chunks = await request.toArray();
  received.push({ headers: request.headers, body: Buffer.concat(chunks).toString() });
  response.writeHead(status).end();
});
await new Promise((listening) => receiver.listen(0, "127.0.0.1", listening));
const url = `http://127.0.0.1:${receiver.address().port}/tasks`;

await runInBrowser(async () => {
  const page = await openPage();
  await signUp(page, "ann@example.com", "Ann");
  await openAccount(page, "Ann", "Webhooks");
  await waitForText(page, "You have no webhooks.");

  await page.getByLabel("URL").fill("http://192.0.2.1/");
  await submit(page, "Create webhook");
  await page.locator("[name=url][aria-invalid]").waitFor();
  await page.getByLabel("URL").fill(url);
  await page.getByLabel("Filter").fill("title = (");
  await submit(page, "Create webhook");
  await page.locator("[name=filter][aria-invalid]").waitFor();
  await page.getByLabel("Filter").fill("");
  await submit(page, "Create webhook");
  const secret = await closeSecret(page);

  await press(page, "Test");
  await waitForText(page, `${url} has accepted the test.`);
  verify(received.at(-1), secret);
  await press(page, "Attempts");
  await entry(page, "Status 200").waitFor();

  // The receiver declines further messages, so the server pauses the webhook.
  status = 410;
  await page.getByRole("link", { name: /^Tasks/ }).first().click();
  await addTask(page, "Buy milk");
  await waitFor("the change is sent", async () => received.length === 2);
  await openAccount(page, "Ann", "Webhooks");
  await waitFor("the page shows that it is paused", async () => {
    await openAccount(page, "Ann");
    await openAccount(page, "Ann", "Webhooks");
    await entry(page, url).waitFor();
    return entry(page, url).getByText("paused", { exact: true }).isVisible();
  });
  await entry(page, url).getByText(/The receiver has failed since .* no change is lost/).waitFor();
  await press(page, "Attempts");
  await entry(page, "the receiver answered with status 410").waitFor();

  status = 200;
  await press(page, "Resume");
  await waitFor("the change is sent again", async () => received.length === 3);
  if (!received.at(-1).body.includes("Buy milk")) throw new Error(received.at(-1).body);
  await press(page, "Pause");
  await waitForText(page, "Nothing is sent.");
  await press(page, "Rotate secret");
  await submit(page, "Rotate secret");
  const newSecret = await closeSecret(page);
  if (newSecret === secret) throw new Error("the secret is the same");
  await press(page, "Delete");
  await submit(page, "Delete webhook");
  await waitForText(page, "You have no webhooks.");
});
receiver.close();

async function press(page, name) {
  await entry(page, url).getByRole("button", { name: `${name}: ` }).click();
}

async function submit(page, name) {
  await page.getByRole("button", { name, exact: true }).click();
}

/** Returns the secret that the dialog shows, and closes it. */
async function closeSecret(page) {
  const dialog = page.getByRole("dialog").filter({ hasText: "It is not shown again." });
  const secret = await dialog.getByLabel("Secret").inputValue();
  if (!/^whsec_[\w+/]{43}=$/.test(secret)) throw new Error(secret);
  await dialog.getByRole("button", { name: "Done" }).click();
  await dialog.waitFor({ state: "detached" });
  return secret;
}

function verify({ headers, body }, secret) {
  const key = Buffer.from(secret.replace("whsec_", ""), "base64");
  const signed = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`;
  const signature = `v1,${createHmac("sha256", key).update(signed).digest("base64")}`;
  if (headers["webhook-signature"] !== signature) throw new Error(headers["webhook-signature"]);
}
