// Files with tasks: export, and import with a report of what a file contains before anything is created.
import { call } from "./api.js";
import { element, fromTemplate } from "./dom.js";
import { saveFile } from "./export.js";
import { onPress, onSubmit } from "./form.js";
import { entry } from "./layout.js";
import { announce } from "./notice.js";
import { renewSession } from "./session.js";

const PATH = "/v1/tasks";
const TIMEOUT_MS = 15 * 60_000;

/** The formats of exports, which can also be imported: their names, and the ends of names of files. */
const FORMATS = {
  FILE_FORMAT_JSONL: ["Taskey (keeps everything)", "jsonl"],
  FILE_FORMAT_CSV: ["Table (CSV)", "csv"],
  FILE_FORMAT_ICALENDAR: ["Calendar (iCalendar)", "ics"],
};
const IMPORT_FORMATS = {
  ...FORMATS,
  FILE_FORMAT_TODOIST_CSV: ["Todoist, one project (CSV)"],
  FILE_FORMAT_TODOIST_BACKUP: ["Todoist, backup (zip)", "zip"],
  FILE_FORMAT_GOOGLE_TAKEOUT: ["Google Tasks (Takeout)", "json"],
  FILE_FORMAT_MICROSOFT_TODO: ["Microsoft To Do"],
};

/** Creates the view of imports and exports. */
export function filesView() {
  const parts = fromTemplate("files-view");
  fillFormats(parts.exportFormat, FORMATS);
  fillFormats(parts.importFormat, IMPORT_FORMATS);
  onSubmit(parts.exportForm, async ({ format }) => {
    await renewSession();
    const file = await call("GET", `${PATH}:export?${new URLSearchParams({ format })}`, { isFile: true, timeoutMs: TIMEOUT_MS });
    saveFile(`taskey-tasks.${FORMATS[format][1]}`, file);
    announce("Your tasks are saved as a file.");
  });
  initImport(parts);
  announce("Import and export");
  return { root: parts.root, heading: parts.heading, update: () => {}, title: () => "Import and export" };
}

function fillFormats(select, formats) {
  select.append(...Object.entries(formats).map(([value, [name]]) => element("option", { value }, name)));
}

function initImport(parts) {
  const { file, importFormat, importForm, report, start } = parts;
  let checked;
  importForm.addEventListener("change", () => {
    report.hidden = true;
  });
  file.addEventListener("change", () => {
    importFormat.value = likelyFormat(file.files[0]?.name ?? "") ?? importFormat.value;
  });
  onSubmit(importForm, async (fields) => {
    checked = fields;
    await run(parts, fields, true);
  });
  onPress(start, () => run(parts, checked, false));
}

/** Returns the format that files with this name usually have. */
function likelyFormat(name) {
  const isUsual = ([, [, extension]]) => extension && name.toLowerCase().endsWith(`.${extension}`);
  return Object.entries(IMPORT_FORMATS).find(isUsual)?.[0];
}

/** Checks or imports a file, and shows the outcome. Nothing is created from a file with errors. */
async function run(parts, { file, format }, validateOnly) {
  const query = new URLSearchParams({ format, validate_only: validateOnly });
  try {
    await renewSession();
    const result = await call("POST", `${PATH}:import?${query}`, { body: file, timeoutMs: TIMEOUT_MS });
    showReport(parts, {
      summary: summary(result, validateOnly),
      issues: result.issues.map(({ row, field, description }) => issueItem(row, field, description)),
      hiddenCount: result.issueCount - result.issues.length,
      canStart: validateOnly && result.createdTaskCount + result.createdListCount > 0,
    });
  } catch (error) {
    if (error.reason === "TOKEN_EXPIRED") return showInterruption(parts, validateOnly);
    if (error.reason !== "IMPORT_INVALID" || !error.fields.length) throw error;
    showReport(parts, {
      summary: "This file cannot be imported. Nothing was created.",
      issues: error.fields.map(({ field, description }) => {
        const [, row = 0, name = field] = /^rows\[(\d+)\]\.?(.*)$/.exec(field) ?? [];
        return issueItem(Number(row), name, description);
      }),
      hiddenCount: 0,
      canStart: false,
    });
  }
}

/** Renews the session, which fails if it has ended, and says how to continue. */
async function showInterruption(parts, validateOnly) {
  await call("GET", "/v1/me");
  const summary = validateOnly
    ? "The check took too long and was interrupted. Check the file again."
    : "The import took too long and was interrupted. Import the file again to continue; no task is created twice.";
  showReport(parts, { summary, issues: [], hiddenCount: 0, canStart: !validateOnly });
}

function showReport({ report, summary: heading, issues: list, more, start }, { summary: text, issues, hiddenCount, canStart }) {
  heading.textContent = text;
  list.replaceChildren(...issues);
  more.textContent = hiddenCount > 0 ? `${counted(hiddenCount, "more issue")} of this file.` : "";
  start.hidden = !canStart;
  report.hidden = false;
  heading.focus();
}

function summary({ createdTaskCount, createdListCount, unchangedTaskCount }, validateOnly) {
  const counts = [[createdTaskCount, "task"], [createdListCount, "list"]].filter(([count]) => count);
  const created = counts.map(([count, noun]) => counted(count, noun)).join(" and ") || "nothing";
  const unchanged = unchangedTaskCount ? ` Already imported: ${counted(unchangedTaskCount, "task")}, ${mayBeDeleted(unchangedTaskCount)}.` : "";
  return `The import ${validateOnly ? "creates" : "has created"} ${created}.${unchanged}`;
}

/** A deleted task is not created again. */
function mayBeDeleted(count) {
  return count === 1 ? "which may be deleted" : "some of which may be deleted";
}

function counted(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

function issueItem(row, field, description) {
  const place = [row && `Row ${row}`, field].filter(Boolean).join(", ");
  return entry({ title: place || "The file", details: [description] });
}
