// Short notices: toasts on the screen, and a live region for screen readers.

const HIDE_DELAY_MS = 10_000;

const toast = () => document.getElementById("toast");
let hideTimer;

/** Announces a text to screen readers only. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

/** Shows a text for a while, optionally with an action button. */
export function showToast(text, action) {
  const box = toast();
  const span = document.createElement("span");
  span.textContent = text;
  box.replaceChildren(span);
  if (action) box.append(actionButton(action));
  box.hidden = false;
  scheduleHide();
}

/** Hides the toast. */
export function hideToast() {
  clearTimeout(hideTimer);
  toast().hidden = true;
  toast().replaceChildren();
}

function actionButton({ label, run }) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = label;
  button.addEventListener("click", () => {
    hideToast();
    run();
  });
  return button;
}

/** Hides the toast after a delay, but not while it is hovered or has the focus. */
function scheduleHide() {
  const isInUse = () => toast().matches(":hover, :focus-within");
  clearTimeout(hideTimer);
  hideTimer = setTimeout(() => (isInUse() ? scheduleHide() : hideToast()), HIDE_DELAY_MS);
}
