// A logout is one for all windows of the device, and nothing of what they showed is left.
import { add, entered, inBrowser, loggedOut, open, see, signUp } from "./support.mjs";

await inBrowser(async () => {
  const one = await open();
  await signUp(one, "ann@example.com");
  await add(one, "A secret");
  const other = await open({ beside: one });
  await entered(other);
  await see(other, "A secret");
  await one.getByRole("button", { name: "Log out", exact: true }).click();
  await loggedOut(one);
  await loggedOut(other);
  for (const window of [one, other]) {
    if ((await window.content()).includes("A secret")) throw new Error("it is still there");
  }
  await one.reload();
  await loggedOut(one);
});
