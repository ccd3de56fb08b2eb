// The connection state, and the banner that is shown while the server cannot be reached.
import { announce } from "./notice.js";

const TEXTS = {
  offline: "You are offline. What you see may be out of date, and changes cannot be saved until you are online again.",
  unreachable: "The server cannot be reached. Trying again…",
  unavailable: "Part of the service is down at the moment. Trying again…",
  streamInterrupted: "Live updates are interrupted. Trying again…",
};

let requestState = "ok", isStreamOpen = true, shownState = "ok";

/** Records the outcome of the last request: `ok`, or a key of `TEXTS`. */
export function report(state) {
  requestState = state;
  show();
}

/** Records whether the stream of changes is open. Requests can succeed while it is not. */
export function reportStream(isOpen) {
  isStreamOpen = isOpen;
  show();
}

function show() {
  const connectedState = isStreamOpen ? "ok" : "streamInterrupted";
  const state = !navigator.onLine ? "offline" : requestState !== "ok" ? requestState : connectedState;
  if (state === shownState) return;
  if (state === "ok") announce("Connected again.");
  shownState = state;
  const banner = document.getElementById("banner");
  banner.hidden = state === "ok";
  banner.textContent = TEXTS[state] ?? "";
}
