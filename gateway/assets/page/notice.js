// What happened, told in passing: to the eye by a toast, to screen readers by a live region.

const toast = () => document.getElementById("toast");
let timer;

/** Says something to screen readers alone. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

/** Shows a text for a while, with something that can be done about it. */
export function tell(text, action) {
  const box = toast();
  const span = document.createElement("span");
  span.textContent = text;
  box.replaceChildren(span);
  if (action) box.append(button(action));
  box.hidden = false;
  wait();
}

/** Takes away what is shown. */
export function hush() {
  clearTimeout(timer);
  toast().hidden = true;
  toast().replaceChildren();
}

function button({ label, run }) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = label;
  made.addEventListener("click", () => {
    hush();
    run();
  });
  return made;
}

/** Nothing goes away under somebody's hand. */
function wait() {
  clearTimeout(timer);
  timer = setTimeout(() => (toast().matches(":hover, :focus-within") ? wait() : hush()), 10_000);
}
