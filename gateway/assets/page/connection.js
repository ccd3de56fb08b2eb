// Whether the server can be reached, and the banner that says so when it cannot.
import { announce } from "./notice.js";

const TEXTS = {
  offline: "You are offline. What you see may be old, and changes cannot be saved until you are back.",
  away: "The server cannot be reached. Trying again…",
  down: "Part of the service is down at the moment. Trying again…",
  catchingUp: "Live updates are interrupted. Trying again…",
};

let requests = "fine", streams = true, shown = "fine";

/** Says how the last request went: `fine`, or a key of the texts above. */
export function report(state) {
  requests = state;
  show();
}

/** Says whether changes come as they happen. Requests may go well although they do not. */
export function reportStream(open) {
  streams = open;
  show();
}

function show() {
  const state = !navigator.onLine ? "offline" : requests !== "fine" ? requests : streams ? "fine" : "catchingUp";
  if (state === shown) return;
  if (state === "fine") announce("Connected again.");
  shown = state;
  const banner = document.getElementById("banner");
  banner.hidden = state === "fine";
  banner.textContent = TEXTS[state] ?? "";
}
