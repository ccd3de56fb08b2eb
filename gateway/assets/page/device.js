// The view at /device, where users decide about devices that ask for a session (RFC 8628). Opening it changes nothing.
import { call } from "./api.js";
import { formatInstant } from "./dates.js";
import { element } from "./dom.js";
import { onPress, onSubmit } from "./form.js";
import { scopeText } from "./scopes.js";

const PATH = "/v1/me/deviceAuthorizations";

/** Reports whether the address is that of this view. */
export const isDevicePage = () => location.pathname.endsWith("/device");

/** Creates the view for the code that a device shows. A code in the address is filled in, and sent only by the user. */
export function deviceView(user) {
  const root = element("main", { class: "centered" });
  const code = element("input", {
    name: "userCode", required: "", maxlength: "20", autocomplete: "off", autocapitalize: "characters", spellcheck: "false",
    "aria-describedby": "code-rule", value: location.hash.slice(1, 20),
  });
  const form = card(
    "form",
    "Connect a device",
    element("label", {}, "Code that the device shows ", code),
    element("p", { class: "muted", id: "code-rule" }, "Eight letters, such as WDJB-MJHT."),
    element("p", { class: "error", role: "alert" }),
    element("button", { class: "primary" }, "Continue"),
  );
  onSubmit(form, async ({ userCode }) => {
    const device = await call("GET", `${PATH}/${encodeURIComponent(userCode)}`);
    show(root, decisionForm(device, user, (heading, text) => show(root, doneCard(heading, text))));
  });
  root.append(form);
  return { root, code };
}

/** Creates the form in which the user allows or refuses a device. */
function decisionForm(device, user, onDone) {
  const { userCode, clientId, scopes, ipAddress, userAgent, createTime } = device;
  const decide = (action) => call("POST", `${PATH}/${encodeURIComponent(userCode)}:${action}`, { body: {} });
  const refuse = element("button", { type: "button" }, "Refuse");
  const form = card(
    "form",
    "Allow this device?",
    element("p", {}, "A device asks to be logged in as ", element("strong", {}, user.email), "."),
    list(
      ["Code", userCode],
      ["Name", `${clientId} (not verified)`],
      ["Asked from", ipAddress || "an unknown address"],
      ["Program", userAgent || "unknown"],
      ["Asked", formatInstant(createTime)],
    ),
    element("h2", {}, "It could"),
    permissions(scopes),
    element("p", { class: "note" }, "Allow it only if you have just started this yourself, and the device shows this code. " +
      "Refuse it if somebody has sent you the code: they would use your account."),
    element("p", { class: "error", role: "alert" }),
    element("p", { class: "actions" }, element("button", { class: "primary" }, "Allow"), " ", refuse),
  );
  onSubmit(form, async () => {
    await decide("approve");
    onDone("The device is connected", "It is logged in within a few seconds. You can log it out in your account.");
  });
  onPress(refuse, async () => {
    await decide("deny");
    onDone("The device was refused", "It gets no access to your account.");
  });
  return form;
}

function permissions(scopes) {
  const texts = scopes.length ? scopes.map(scopeText) : ["Do everything that you can do after a login"];
  return element("ul", { class: "bullets" }, ...texts.map((text) => element("li", {}, text)));
}

function doneCard(heading, text) {
  const link = element("a", { href: "." }, "Go to your tasks");
  return card("div", heading, element("p", {}, text), element("p", { class: "switch" }, link));
}

/** Creates a card with a heading. `name` is the name of the element. */
function card(name, heading, ...children) {
  const icon = element("img", { src: "page/icon.svg", alt: "", width: "32", height: "32" });
  const brand = element("p", { class: "brand" }, icon, " Taskey");
  return element(name, { class: "card" }, brand, element("h1", { tabindex: "-1" }, heading), ...children);
}

function list(...entries) {
  const items = entries.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
  return element("dl", { class: "facts" }, ...items);
}

/** Replaces the card of the view. The focus moves to its heading, so that screen readers read it. */
function show(root, content) {
  root.replaceChildren(content);
  content.querySelector("h1").focus();
}
