// Without a network the page says so; with it again it shows what it has missed.
import { add, inBrowser, logIn, open, read, see, signUp } from "./support.mjs";

await inBrowser(async () => {
  const [one, other] = [await open(), await open()];
  await signUp(one, "ann@example.com");
  await add(one, "Before");
  await logIn(other, "ann@example.com");
  await see(other, "Before");
  await one.context().setOffline(true);
  await read(one, "You are offline.");
  await one.getByLabel("New task", { exact: true }).fill("Not yet");
  await one.keyboard.press("Enter");
  await read(one, "could not be saved");
  await add(other, "Meanwhile");
  await one.context().setOffline(false);
  await see(one, "Meanwhile");
  await one.locator("#banner").waitFor({ state: "hidden" });
  if ((await one.getByLabel("New task", { exact: true }).inputValue()) !== "Not yet") throw new Error("what was typed is lost");
  await one.getByLabel("New task", { exact: true }).press("Enter");
  await see(other, "Not yet");
});
