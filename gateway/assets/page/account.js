// The account view: sessions, password change and account deletion.
import { call, explain } from "./api.js";
import { formatInstant } from "./dates.js";
import { fromTemplate } from "./dom.js";
import { onSubmit } from "./form.js";
import { announce, showToast } from "./notice.js";

/** Creates the account view. `logOut` ends this session; `clearSession` clears the page after the session has ended. */
export function accountView(user, { logOut, clearSession }) {
  const parts = fromTemplate("account-view");
  parts.userInfo.textContent = [user.displayName, user.email].filter(Boolean).join(" · ");
  parts.email.value = user.email;

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
      await showDone("That device is logged out.");
    } catch (error) {
      if (error.reason === "SESSION_NOT_FOUND") return loadSessions();
      showToast(explain(error));
    }
  };
  parts.others.addEventListener("click", async () => {
    try {
      await call("POST", "/v1/me/sessions:revokeOthers", { body: {} });
      await showDone("All other devices are logged out.");
    } catch (error) {
      showToast(explain(error));
    }
  });
  onSubmit(parts.passwordForm, async ({ currentPassword, newPassword }) => {
    await call("POST", "/v1/me:changePassword", { body: { currentPassword, newPassword } });
    parts.passwordForm.reset();
    parts.email.value = user.email;
    await showDone("Password changed. All other devices are logged out.");
  });
  onSubmit(parts.deleteForm, async ({ currentPassword }) => {
    await call("POST", "/v1/me:delete", { body: { currentPassword } });
    clearSession("Your account has been deleted.");
  });
  loadSessions().then(() => announce("Your account"));
  return { root: parts.root, heading: parts.heading, update: () => {}, title: () => "Your account" };
}

function sessionItem(session, endSession) {
  const parts = fromTemplate("session-item");
  const name = session.label || "Unnamed device";
  parts.label.textContent = name;
  parts.badge.hidden = !session.current;
  const used = session.current ? "" : `last used ${formatInstant(session.lastUsedTime ?? session.createTime)}`;
  const since = `since ${formatInstant(session.createTime)}`;
  parts.details.textContent = [session.ipAddress, since, used].filter(Boolean).join(" · ");
  parts.end.textContent = session.current ? "Log out this device" : "Log out";
  if (!session.current) parts.end.setAttribute("aria-label", `Log out ${name}, ${since}`);
  parts.end.addEventListener("click", () => endSession(session));
  return parts.root;
}
