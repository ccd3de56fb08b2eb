// The entry point: finds out who is logged in, and selects the view.
import { actionView, linkedAction } from "./action.js";
import { call, explain, sessionEvents } from "./api.js";
import { watchDay } from "./dates.js";
import { deviceView, isDevicePage } from "./device.js";
import { element, fromTemplate } from "./dom.js";
import { discardEditors, keepEditors } from "./editor.js";
import { initNewListForm, showLists } from "./lists.js";
import { announce, hideToast, showToast } from "./notice.js";
import { firedReminders } from "./notifications.js";
import { searchView } from "./search.js";
import { linkedSection, sectionView } from "./sections.js";
import { logOut, loginView } from "./session.js";
import "./step-up.js";
import { store } from "./store.js";
import { listView } from "./tasks.js";
import { startWatch, stopWatch } from "./watch.js";

let user, frame, view, reminders, focusesHeading, showsAction;

sessionEvents.addEventListener("end", () => clearSession("You have been logged out."));
store.addEventListener("change", show);
watchDay(show);
addEventListener("hashchange", () => {
  if (linkedAction() || showsAction) return start();
  if (frame) frame.search.value = "";
  discardEditors();
  show();
  view?.heading.focus();
});
start();

async function start(note = "") {
  const action = linkedAction();
  showsAction = Boolean(action);
  if (action) return showAction(action);
  try {
    enter(await call("GET", "/v1/me"));
    if (note) showToast(note);
  } catch (error) {
    if (error.code === 401) return showLogin(note || (isDevicePage() ? "Log in to connect a device." : ""));
    setRoot(element("main", { class: "centered" }, element("p", { class: "card" }, explain(error))));
    setTimeout(start, Math.max(error.retryAfter, 2) * 1000);
  }
}

function setRoot(root) {
  document.getElementById("view").replaceChildren(root);
}

/** Shows the view of a link in a mail. Afterwards, the token is not in the history of the browser. */
function showAction(action) {
  view?.dispose?.();
  user = frame = view = reminders = undefined;
  stopWatch();
  const parts = actionView(action, (note) => {
    history.replaceState(null, "", ".");
    start(note);
  });
  document.title = `${action.heading} – Taskey`;
  setRoot(parts.root);
  parts.heading.focus();
}

function showLogin(note) {
  document.title = "Log in – Taskey";
  const root = loginView(note, (loggedInUser) => {
    focusesHeading = true;
    enter(loggedInUser);
  });
  setRoot(root);
  root.querySelector("[name=email]").focus();
}

/** Shows the view for a code of a device at its own path, and else the app. */
function enter(loggedInUser) {
  if (!isDevicePage()) return showApp(loggedInUser);
  user = loggedInUser;
  const parts = deviceView(user);
  document.title = "Connect a device – Taskey";
  setRoot(parts.root);
  parts.code.focus();
}

function showApp(loggedInUser) {
  // A late response may have filled the store with data of another user.
  store.clear();
  discardEditors();
  user = loggedInUser;
  frame = fromTemplate("app-view");
  frame.account.textContent = user.displayName || user.email;
  frame.logout.addEventListener("click", handleLogout);
  frame.menu.addEventListener("click", () => showSidebar(!frame.sidebar.classList.contains("shown")));
  frame.sidebar.addEventListener("click", (event) => event.target.closest("a") && showSidebar(false));
  frame.searchForm.addEventListener("submit", (event) => event.preventDefault());
  frame.search.addEventListener("input", show);
  frame.search.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    frame.search.value = "";
    show();
  });
  initNewListForm(frame.newList);
  setRoot(frame.root);
  startWatch(user);
}

/** Removes everything that the session has shown, and shows the login view with a note. */
function clearSession(note) {
  if (!user) return;
  discardEditors();
  view?.dispose?.();
  user = frame = view = reminders = undefined;
  stopWatch();
  store.clear();
  hideToast();
  announce("");
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.close();
    dialog.remove();
  }
  history.replaceState(null, "", ".");
  showLogin(note);
}

async function handleLogout() {
  stopWatch();
  try {
    await logOut();
    clearSession("You have logged out.");
  } catch (error) {
    if (!user) return;
    showToast(`You are still logged in. ${explain(error)}`);
    startWatch(user);
  }
}

function showSidebar(isShown) {
  frame.sidebar.classList.toggle("shown", isShown);
  frame.menu.setAttribute("aria-expanded", String(isShown));
}

/** Shows the view that the search field or the URL selects. */
function show() {
  if (!frame || !store.lists.length) return;
  const focused = document.activeElement;
  const query = frame.search.value.trim();
  const section = query ? undefined : linkedSection(user);
  const viewId = query ? "search" : section?.id ?? selectedList().id;
  if (viewId !== view?.id) {
    view?.dispose?.();
    view = createView(viewId, section);
    view.id = viewId;
    reminders ??= firedReminders();
    frame.main.replaceChildren(reminders.root, view.root);
    showSidebar(false);
  }
  if (query && query !== view.query) view.search((view.query = query));
  else view.update();
  keepEditors(view.root, focused);
  reminders.update();
  showLists(frame.lists, viewId);
  if (section) frame.account.setAttribute("aria-current", "page");
  else frame.account.removeAttribute("aria-current");
  document.title = `${view.title()} – Taskey`;
  // After a login, the focus was in the login form, which has been removed.
  if (focusesHeading) view.heading.focus();
  focusesHeading = false;
}

function createView(id, section) {
  if (id === "search") return searchView();
  return section ? sectionView(section, user, { logOut: handleLogout, clearSession }) : listView(id);
}

/** Returns the list in the URL, or else the default list. */
function selectedList() {
  return store.list(location.hash.replace("#list=", "")) ?? store.lists[0];
}
