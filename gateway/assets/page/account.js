// The account: where one is logged in, another password, the end of it all.
import { call, explain } from "./api.js";
import { instant } from "./dates.js";
import { fromTemplate } from "./dom.js";
import { onSubmit } from "./form.js";
import { announce, tell } from "./notice.js";

/** The view of the account. `logOut` ends this session, `leave` forgets a session that has ended. */
export function accountView(user, { logOut, leave }) {
  const parts = fromTemplate("account-view");
  parts.who.textContent = [user.displayName, user.email].filter(Boolean).join(" · ");
  parts.email.value = user.email;

  const pull = async () => {
    try {
      const { sessions } = await call("GET", "/v1/me/sessions");
      parts.sessions.replaceChildren(...sessions.map((session) => item(session, end)));
      parts.others.hidden = sessions.length < 2;
      parts.fault.textContent = "";
    } catch (error) {
      parts.fault.textContent = explain(error);
    }
  };
  const done = async (text) => {
    tell(text);
    await pull();
    parts.heading.focus();
  };
  const end = async (session) => {
    if (session.current) return logOut();
    try {
      await call("DELETE", `/v1/me/sessions/${session.id}`);
      await done("That device is logged out.");
    } catch (error) {
      if (error.reason === "SESSION_NOT_FOUND") return pull();
      tell(explain(error));
    }
  };
  parts.others.addEventListener("click", async () => {
    try {
      await call("POST", "/v1/me/sessions:revokeOthers", { body: {} });
      await done("All other devices are logged out.");
    } catch (error) {
      tell(explain(error));
    }
  });
  onSubmit(parts.passwordForm, async ({ currentPassword, newPassword }) => {
    await call("POST", "/v1/me:changePassword", { body: { currentPassword, newPassword } });
    parts.passwordForm.reset();
    parts.email.value = user.email;
    await done("The password is changed, and all other devices are logged out.");
  });
  onSubmit(parts.deleteForm, async ({ currentPassword }) => {
    await call("POST", "/v1/me:delete", { body: { currentPassword } });
    leave("Your account has been deleted.");
  });
  pull().then(() => announce("Your account"));
  return { root: parts.root, heading: parts.heading, update: () => {}, title: () => "Your account" };
}

function item(session, end) {
  const parts = fromTemplate("session-item");
  const name = session.label || "Unnamed device";
  parts.label.textContent = name;
  parts.badge.hidden = !session.current;
  const used = session.current ? "" : `last used ${instant(session.lastUsedTime ?? session.createTime)}`;
  parts.facts.textContent = [session.ipAddress, `since ${instant(session.createTime)}`, used].filter(Boolean).join(" · ");
  parts.end.textContent = session.current ? "Log out this device" : "Log out";
  if (!session.current) parts.end.setAttribute("aria-label", `Log out ${name}, since ${instant(session.createTime)}`);
  parts.end.addEventListener("click", () => end(session));
  return parts.root;
}
