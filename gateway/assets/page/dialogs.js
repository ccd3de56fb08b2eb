// Dialogs that several views use: confirmation of an action, and a secret that is shown once.
import { fromTemplate, showDialog } from "./dom.js";
import { onPress, onSubmit } from "./form.js";

/** Asks whether to do something. If so, runs it, closes the dialog, and passes the result to `onDone`. */
export function confirmAction({ heading, text, label, run, onDone = () => {} }) {
  const parts = fromTemplate("confirm-dialog");
  parts.heading.textContent = heading;
  parts.text.textContent = text;
  parts.submit.textContent = label;
  onSubmit(parts.root.querySelector("form"), async () => {
    const result = await run();
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
