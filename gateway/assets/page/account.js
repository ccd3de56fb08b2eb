// The account view: the email address, sessions, password change, export and account deletion.
import { call, explain } from "./api.js";
import { formatInstant } from "./dates.js";
import { fromTemplate } from "./dom.js";
import { initEmailForm, showEmail } from "./email.js";
import { initExport } from "./export.js";
import { onPress, onSubmit } from "./form.js";
import { entry } from "./layout.js";
import { announce, showToast } from "./notice.js";

/** Creates the account view. `logOut` ends this session; `clearSession` clears the page after the session has ended. */
export function accountView(user, { logOut, clearSession }) {
  const parts = fromTemplate("account-view");

  const showUser = (current) => {
    parts.userInfo.textContent = [current.displayName, current.email].filter(Boolean).join(" · ");
    showEmail(parts, current);
  };
  const loadSessions = async () => {
    try {
      const { sessions } = await call("GET", "/v1/me/sessions");
      parts.sessions.replaceChildren(...sessions.map((session) => sessionItem(session, endSession)));
      parts.others.hidden = sessions.length < 2;
      parts.error.textContent = "";
    } catch (error) {
      parts.error.textContent = explain(error);
    }
  };
  const showDone = async (text) => {
    showToast(text);
    await loadSessions();
    parts.heading.focus();
  };
  const endSession = async (session) => {
    if (session.current) return logOut();
    try {
      await call("DELETE", `/v1/me/sessions/${session.id}`);
    } catch (error) {
      if (error.reason !== "SESSION_NOT_FOUND") throw error;
    }
    await showDone("That device is logged out.");
  };
  onPress(parts.others, async () => {
    await call("POST", "/v1/me/sessions:revokeOthers", { body: {} });
    await showDone("All other devices are logged out.");
  });
  onSubmit(parts.passwordForm, async ({ currentPassword, newPassword }) => {
    await call("POST", "/v1/me:changePassword", { body: { currentPassword, newPassword } });
    for (const name of ["currentPassword", "newPassword"]) parts.passwordForm.elements[name].value = "";
    await showDone("Password changed. All other devices are logged out.");
  });
  onSubmit(parts.deleteForm, async ({ currentPassword }) => {
    await call("POST", "/v1/me:delete", { body: { currentPassword } });
    clearSession("Your account has been deleted.");
  });
  initEmailForm(parts);
  initExport(parts.exportButton);
  showUser(user);
  // The address may have been confirmed or changed since the page was loaded. Errors are those of the sessions, too.
  call("GET", "/v1/me").then(showUser, () => {});
  loadSessions().then(() => announce("Your account"));
  return { root: parts.root, heading: parts.heading, update: () => {}, title: () => "Your account" };
}

/** Creates the item of a session. Without `endSession`, it has no button. */
export function sessionItem(session, endSession) {
  const { label, current, ipAddress, createTime, lastUsedTime, scopes } = session;
  const name = label || "Unnamed device";
  const used = current ? "" : `last used ${formatInstant(lastUsedTime ?? createTime)}`;
  const since = `since ${formatInstant(createTime)}`;
  const action = {
    label: current ? "Log out this device" : "Log out",
    name: current ? "" : `Log out ${name}, ${since}`,
    run: () => endSession(session),
  };
  return entry({
    title: name,
    badges: current ? ["this device"] : [],
    details: [[ipAddress, since, used].filter(Boolean).join(" · "), scopes.length > 0 && `only ${scopes.join(", ")}`],
    actions: endSession ? [action] : [],
  });
}
