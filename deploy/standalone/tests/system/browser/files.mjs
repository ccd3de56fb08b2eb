// Tasks are exported as a file, and imported from files after a report of what they contain.
import { readFileSync } from "node:fs";
import {
  addTask, axe, checkFile, entry, openAccount, openPage, runInBrowser, signUp, waitForTask, waitForTaskView, waitForText,
} from "./support.mjs";
import { DEVICES, viewChecker } from "./views.mjs";

await runInBrowser(async () => {
  const page = await openPage({ ...DEVICES.phone, acceptDownloads: true, scripts: [axe] });
  const check = viewChecker(page, "phone");
  await signUp(page, "ann@example.com", "Ann");
  await addTask(page, "Buy milk");
  await openAccount(page, "Ann", "Import and export");
  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download my tasks" }).click();
  const file = await download;
  if (file.suggestedFilename() !== "taskey-tasks.jsonl") throw new Error(file.suggestedFilename());
  const lines = readFileSync(await file.path(), "utf8").trim().split("\n").map((line) => JSON.parse(line));
  if (lines.find(({ task }) => task)?.task.title !== "Buy milk") throw new Error(JSON.stringify(lines));

  await checkFile(page, "tasks.csv", "title,due_date\nPay the rent,2030-05-01\nCall Bob,tomorrow\n");
  await waitForText(page, "This file cannot be imported. Nothing was created.");
  await entry(page, "Row 3, due_date").waitFor();
  await check("import-invalid");

  await checkFile(page, "tasks.csv", "title,due_date,colour\nPay the rent,2030-05-01,red\n");
  await waitForText(page, "The import creates 1 task.");
  await check("import-report");
  await page.getByRole("button", { name: "Import", exact: true }).press("Enter");
  await waitForText(page, "The import has created 1 task.");
  await checkFile(page, "tasks.jsonl", readFileSync(await file.path(), "utf8"));
  await waitForText(page, "The import creates nothing. Already imported: 1 task, which may be deleted.");
  await expectInterruptedImport(page);
  await page.goto("./#");
  await waitForTaskView(page);
  await waitForTask(page, "Pay the rent");
});

/** An import during which the access token expires can be continued: the session goes on. */
async function expectInterruptedImport(page) {
  const details = [{ "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason: "TOKEN_EXPIRED", domain: "taskey" }];
  const error = { code: 401, status: "UNAUTHENTICATED", message: "the access token has expired", details };
  const isImport = (url) => url.pathname.endsWith("/v1/tasks:import") && url.searchParams.get("validate_only") === "false";
  await checkFile(page, "tasks.csv", "title\nFeed the cat\n");
  await waitForText(page, "The import creates 1 task.");
  await page.route(isImport, (route) => route.fulfill({ status: 401, json: { error } }), { times: 1 });
  const renewal = page.waitForResponse((response) => response.url().endsWith("/v1/auth/refresh?cookie=true"));
  const start = page.getByRole("button", { name: "Import", exact: true });
  await start.press("Enter");
  if ((await renewal).status() !== 200) throw new Error(`the tokens are not renewed: ${(await renewal).status()}`);
  await waitForText(page, "The import took too long and was interrupted.");
  await start.press("Enter");
  await waitForText(page, "The import has created 1 task.");
}
