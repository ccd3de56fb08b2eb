// The views that links in mails open. They act only when the user presses the button: mail scanners open links, too.
import { call } from "./api.js";
import { fromTemplate } from "./dom.js";
import { onSubmit } from "./form.js";

const ACTIONS = {
  verifyEmail: {
    heading: "Confirm your email address",
    fields: [],
    hasToken: true,
    path: "/v1/auth/email:verify",
    done: "Your email address is confirmed.",
  },
  confirmEmailChange: {
    heading: "Confirm your new email address",
    fields: [],
    hasToken: true,
    path: "/v1/auth/email:confirmChange",
    done: "Your email address has been changed.",
  },
  undoEmailChange: {
    heading: "Restore your email address",
    fields: [],
    hasToken: true,
    path: "/v1/auth/email:undoChange",
    done: "Your email address is restored. A mail with which to choose a new password is on its way.",
  },
  forgotPassword: {
    heading: "Reset your password",
    fields: ["email"],
    hasToken: false,
    path: "/v1/auth/password:requestReset",
    done: "If the address has an account, a mail with a link is on its way.",
  },
  resetPassword: {
    heading: "Choose a new password",
    fields: ["newPassword"],
    hasToken: true,
    path: "/v1/auth/password:reset",
    done: "Your password has been changed, and all devices are logged out.",
  },
};

/** Returns the action in the URL, with its token, if there is one. */
export function linkedAction() {
  const [, name, token = ""] = /^#(\w+)(?:=([\w-]+))?$/.exec(location.hash) ?? [];
  const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined;
  return action?.hasToken === Boolean(token) ? { ...action, token } : undefined;
}

/** Creates the view of an action. Calls `onDone` with a note after it has succeeded. */
export function actionView({ heading, fields, path, done, token }, onDone) {
  const parts = fromTemplate("action-view");
  parts.heading.textContent = parts.submit.textContent = heading;
  for (const name of ["email", "newPassword"]) if (!fields.includes(name)) parts[name].remove();
  if (!fields.includes("newPassword")) parts.passwordRule.remove();
  onSubmit(parts.root.querySelector("form"), async (values) => {
    await call("POST", path, { body: token ? { ...values, token } : values });
    onDone(done);
  });
  return parts;
}
