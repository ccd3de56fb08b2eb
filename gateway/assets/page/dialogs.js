// Dialogs that several views use: confirmation of an action, a new label, and secrets that are shown once.
import { fromTemplate, showDialog } from "./dom.js";
import { onPress, onSubmit } from "./form.js";
import { announce } from "./notice.js";

/**
 * Asks whether to do something. If so, runs it with the fields in `content`, closes the dialog, and passes the result to
 * `onDone`.
 */
export function confirmAction({ heading, text, label, content, run, onDone = () => {} }) {
  const parts = fromTemplate("confirm-dialog");
  parts.heading.textContent = heading;
  parts.text.textContent = text;
  parts.submit.textContent = label;
  if (content) parts.text.after(content);
  onSubmit(parts.root.querySelector("form"), async (fields) => {
    const result = await run(fields);
    parts.root.close();
    onDone(result);
  });
  showDialog(parts);
}

/** Shows a secret that is not shown again. */
export function showSecret(heading, secret) {
  const parts = fromTemplate("secret-dialog");
  parts.heading.textContent = heading;
  parts.secret.value = secret;
  // The Escape key, pressed by mistake, would lose the secret.
  parts.root.addEventListener("cancel", (event) => event.preventDefault());
  onPress(parts.copy, async () => {
    parts.secret.select();
    // Browsers have a clipboard only in secure contexts (TLS or localhost).
    const isCopied = await navigator.clipboard?.writeText(secret).then(() => true, () => false);
    parts.status.textContent = isCopied ? "Copied." : "Press Ctrl+C or ⌘C to copy the selected text.";
  });
  showDialog(parts);
  parts.copy.focus();
}

/** Opens a dialog with a name, and with networks if there are any to edit. `save` receives what the user has entered. */
export function editLabel({ heading, label, networks, save }) {
  const parts = fromTemplate("edit-dialog");
  const form = parts.root.querySelector("form");
  parts.heading.textContent = heading;
  parts.label.value = label;
  if (networks) form.elements.networks.value = networks.join("\n");
  else parts.networks.remove();
  onSubmit(form, async (fields) => {
    await save(fields);
    parts.root.close();
    announce("Saved.");
  });
  showDialog(parts);
  parts.label.select();
}

/** Shows recovery codes, which are not shown again, with a link that saves them as a file. */
export function showRecoveryCodes(codes) {
  const parts = fromTemplate("codes-dialog");
  const text = codes.map((code) => `${code}\n`).join("");
  parts.codes.value = codes.join("\n");
  parts.codes.rows = codes.length;
  parts.download.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  parts.root.addEventListener("cancel", (event) => event.preventDefault());
  parts.root.addEventListener("close", () => URL.revokeObjectURL(parts.download.href));
  showDialog(parts);
  parts.download.focus();
}
