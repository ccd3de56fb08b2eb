// Signup, login and logout, and the view for users who are not logged in.
import { call, explain } from "./api.js";
import { challengeForm } from "./challenge.js";
import { fromTemplate } from "./dom.js";
import { onPress, onSubmit } from "./form.js";
import { showToast } from "./notice.js";
import { hasPasskeys, logInWithOfferedPasskey, logInWithPasskey, stopOffer } from "./passkeys.js";

const TEXTS = {
  logIn: { heading: "Log in", question: "New here?", other: "Create an account", autocomplete: "current-password" },
  signUp: { heading: "Create an account", question: "Have an account?", other: "Log in", autocomplete: "new-password" },
};

/** Creates the login view. `note` says why it is shown; `onLogin` is called with the user after a login. */
export function loginView(note, onLogin) {
  const parts = fromTemplate("login-view");
  const form = parts.root.querySelector("form");
  let mode = "logIn";
  parts.note.textContent = note;
  const show = () => {
    const { heading, question, other, autocomplete } = TEXTS[mode];
    parts.heading.textContent = parts.submit.textContent = heading;
    parts.question.textContent = question;
    parts.switchMode.textContent = other;
    parts.password.autocomplete = autocomplete;
    const isSignUp = mode === "signUp";
    parts.nameField.hidden = parts.passwordRule.hidden = !isSignUp;
    parts.forgotten.hidden = isSignUp;
    parts.passkey.hidden = isSignUp || !hasPasskeys();
    if (isSignUp) parts.password.setAttribute("aria-describedby", "password-rule");
    else parts.password.removeAttribute("aria-describedby");
    if (isSignUp) stopOffer();
    else offerPasskeys();
  };
  parts.switchMode.addEventListener("click", () => {
    mode = mode === "logIn" ? "signUp" : "logIn";
    parts.error.textContent = parts.note.textContent = "";
    show();
    parts.heading.focus();
  });
  onSubmit(form, async ({ displayName, email, password }) => {
    if (mode === "signUp") {
      await call("POST", "/v1/auth/signup", { body: { email, password, displayName } });
      // The account exists now, even if the login fails.
      mode = "logIn";
      show();
    }
    stopOffer();
    const body = { email, password, sessionLabel: sessionLabel() };
    const { user, challenge } = await call("POST", "/v1/auth/login?cookie=true", { body });
    if (challenge) showChallenge(challenge);
    else onLogin(user);
  });
  const showChallenge = (challenge) => {
    const { root, heading, back } = challengeForm(challenge, onLogin, () => showPassword("The login has expired."));
    back.addEventListener("click", () => showPassword(""));
    parts.password.value = "";
    form.replaceWith(root);
    heading.focus();
  };
  const showPassword = (newNote) => {
    parts.root.replaceChildren(form);
    parts.note.textContent = newNote;
    parts.password.focus();
    offerPasskeys();
  };
  const offerPasskeys = () => {
    const login = logInWithOfferedPasskey(sessionLabel());
    login.then((user) => user && onLogin(user), (error) => showToast(explain(error)));
  };
  onPress(parts.passkeyButton, async () => onLogin(await logInWithPasskey(sessionLabel())));
  show();
  return parts.root;
}

/** Ends the session. Resolves when all services reject its tokens. */
export function logOut() {
  return call("POST", "/v1/auth/logout", { body: { waitForVerifiers: true } });
}

/**
 * Renews the access token before a long request, which ends when the token expires. The current token may still be valid if
 * this fails, or another window has just renewed it.
 */
export async function renewSession() {
  try {
    await call("POST", "/v1/auth/refresh?cookie=true", { body: {} });
  } catch (error) {
    if (error.code === 401) throw error;
  }
}

/** Returns the name of a new session. */
function sessionLabel() {
  return deviceName(navigator.userAgent) || "Browser";
}

/** Returns the browser and the system in a `user-agent` header, or an empty string if it is not that of a browser. */
export function deviceName(agent) {
  const browsers = [["Edg/", "Edge"], ["Firefox/", "Firefox"], ["Chrome/", "Chrome"], ["Safari/", "Safari"]];
  const systems = ["Android", "iPhone", "iPad", "Windows", "Mac OS", "Linux"];
  const browser = browsers.find(([token]) => agent.includes(token))?.[1];
  const system = systems.find((name) => agent.includes(name))?.replace("Mac OS", "macOS");
  return [browser, browser && system].filter(Boolean).join(" on ");
}
