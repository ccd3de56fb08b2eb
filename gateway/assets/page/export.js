// The export of the account: loads all its pages, and saves them as one file.
import { UserError, call } from "./api.js";
import { onPress } from "./form.js";

const PATH = "/v1/me:export";
/** With 500 events each, more than an account has. */
const MAX_PAGES = 1000;

/** Makes a button save what the server stores about the account, except tasks. */
export function initExport(button) {
  onPress(button, async () => {
    const text = JSON.stringify(await loadExport(), null, 2);
    saveFile("taskey-account.json", new Blob([text], { type: "application/json" }));
  });
}

/** Returns the first page of the export with the events of all pages. */
async function loadExport() {
  const { nextPageToken, ...data } = await call("GET", PATH);
  let pageToken = nextPageToken;
  for (let pages = 1; pageToken; pages++) {
    if (pages === MAX_PAGES) throw new UserError("Your account has too many security events for this page.");
    const page = await call("GET", `${PATH}?${new URLSearchParams({ page_token: pageToken })}`);
    data.events.push(...page.events);
    pageToken = page.nextPageToken;
  }
  return data;
}

/** Makes the browser save a file. */
export function saveFile(name, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  // The browser has begun to save the file.
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
