// Begins here: who is logged in, and which view is shown.
import { accountView } from "./account.js";
import { call, explain, session } from "./api.js";
import { element, fromTemplate } from "./dom.js";
import { makeLists, showLists } from "./lists.js";
import { announce, hush, tell } from "./notice.js";
import { searchView } from "./search.js";
import { entryView, logOut } from "./session.js";
import { store } from "./store.js";
import { listView } from "./tasks.js";
import { startWatch, stopWatch } from "./watch.js";

let user, frame, view, focusHeading;

session.addEventListener("end", () => leave("You have been logged out."));
store.addEventListener("change", show);
addEventListener("hashchange", () => {
  if (frame) frame.search.value = "";
  show();
  view?.heading.focus();
});
start();

async function start() {
  try {
    enter(await call("GET", "/v1/me"));
  } catch (error) {
    if (error.code === 401) return showEntry("");
    fill(element("main", { class: "entry" }, element("p", { class: "card" }, explain(error))));
    setTimeout(start, Math.max(error.retryAfter, 2) * 1000);
  }
}

function fill(root) {
  document.getElementById("view").replaceChildren(root);
}

function showEntry(note) {
  document.title = "Log in – Taskey";
  const root = entryView(note, (who) => {
    focusHeading = true;
    enter(who);
  });
  fill(root);
  root.querySelector("[name=email]").focus();
}

function enter(who) {
  // An answer may have come late, to somebody else.
  store.forget();
  user = who;
  frame = fromTemplate("app-view");
  frame.account.textContent = user.displayName || user.email;
  frame.logout.addEventListener("click", end);
  frame.menu.addEventListener("click", () => showSide(!frame.side.classList.contains("shown")));
  frame.side.addEventListener("click", (event) => event.target.closest("a") && showSide(false));
  frame.searchForm.addEventListener("submit", (event) => event.preventDefault());
  frame.search.addEventListener("input", show);
  frame.search.addEventListener("keydown", (event) => event.key === "Escape" && (frame.search.value = "") === "" && show());
  makeLists(frame.newList);
  fill(frame.root);
  startWatch(user);
}

/** Forgets all that the session has shown. */
function leave(note) {
  if (!user) return;
  view?.leave?.();
  user = frame = view = undefined;
  stopWatch();
  store.forget();
  hush();
  announce("");
  for (const dialog of document.querySelectorAll("dialog")) dialog.remove();
  history.replaceState(null, "", "/");
  showEntry(note);
}

async function end() {
  stopWatch();
  try {
    await logOut();
    leave("You have logged out.");
  } catch (error) {
    if (!user) return;
    tell(`You are still logged in. ${explain(error)}`);
    startWatch(user);
  }
}

function showSide(shown) {
  frame.side.classList.toggle("shown", shown);
  frame.menu.setAttribute("aria-expanded", String(shown));
}

/** Shows what the search field or the address asks for. */
function show() {
  if (!frame || !store.lists.length) return;
  const words = frame.search.value.trim();
  const wanted = words ? "search" : location.hash === "#account" ? "account" : chosenList().id;
  if (wanted !== view?.wanted) {
    view?.leave?.();
    view = words ? searchView() : wanted === "account" ? accountView(user, { logOut: end, leave }) : listView(wanted);
    view.wanted = wanted;
    frame.main.replaceChildren(view.root);
    showSide(false);
  }
  if (words && words !== view.words) view.search((view.words = words));
  else view.update();
  showLists(frame.lists, wanted);
  if (wanted === "account") frame.account.setAttribute("aria-current", "page");
  else frame.account.removeAttribute("aria-current");
  document.title = `${view.title()} – Taskey`;
  // Who has just logged in was in a form that is gone.
  if (focusHeading) view.heading.focus();
  focusHeading = false;
}

/** The list in the address, else the default one. */
function chosenList() {
  return store.list(location.hash.replace("#list=", "")) ?? store.lists[0];
}
