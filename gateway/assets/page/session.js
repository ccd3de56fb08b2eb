// Sign up, log in, log out. The view that is shown to who is not logged in.
import { call } from "./api.js";
import { fromTemplate } from "./dom.js";
import { onSubmit } from "./form.js";

const TEXTS = {
  logIn: { heading: "Log in", question: "New here?", other: "Create an account", password: "current-password" },
  signUp: { heading: "Create an account", question: "Have an account?", other: "Log in", password: "new-password" },
};

/** The view, with a note of why it is shown. `enter` is called with the user once there is one. */
export function entryView(note, enter) {
  const parts = fromTemplate("entry-view");
  const form = parts.root.querySelector("form");
  let way = "logIn";
  parts.note.textContent = note;
  const show = () => {
    const { heading, question, other, password } = TEXTS[way];
    parts.heading.textContent = parts.submit.textContent = heading;
    parts.question.textContent = question;
    parts.other.textContent = other;
    parts.password.autocomplete = password;
    const isNew = way === "signUp";
    parts.nameField.hidden = parts.rule.hidden = !isNew;
    if (isNew) parts.password.setAttribute("aria-describedby", "password-rule");
    else parts.password.removeAttribute("aria-describedby");
  };
  parts.other.addEventListener("click", () => {
    way = way === "logIn" ? "signUp" : "logIn";
    parts.fault.textContent = parts.note.textContent = "";
    show();
    parts.heading.focus();
  });
  onSubmit(form, async ({ displayName, email, password }) => {
    if (way === "signUp") {
      await call("POST", "/v1/auth/signup", { body: { email, password, displayName } });
      // From here on there is an account, whatever becomes of the login.
      way = "logIn";
      show();
    }
    const body = { email, password, sessionLabel: thisDevice() };
    const { user } = await call("POST", "/v1/auth/login?cookie=true", { body });
    enter(user);
  });
  show();
  return parts.root;
}

/** Ends the session, and answers once no service takes it any more. */
export function logOut() {
  return call("POST", "/v1/auth/logout", { body: { waitForVerifiers: true } });
}

/** How the session is called in the list of sessions. */
function thisDevice() {
  const agent = navigator.userAgent;
  const browser = [["Edg/", "Edge"], ["Firefox/", "Firefox"], ["Chrome/", "Chrome"], ["Safari/", "Safari"]];
  const system = ["Android", "iPhone", "iPad", "Windows", "Mac OS", "Linux"];
  const name = browser.find(([mark]) => agent.includes(mark))?.[1] ?? "Browser";
  const place = system.find((mark) => agent.includes(mark));
  return place ? `${name} on ${place === "Mac OS" ? "macOS" : place}` : name;
}
