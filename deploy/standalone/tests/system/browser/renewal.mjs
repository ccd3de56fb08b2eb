// The access token lives for seconds here, and nobody notices.
import { add, inBrowser, logIn, open, see, signUp } from "./support.mjs";

await inBrowser(async () => {
  const [one, other] = [await open(), await open()];
  await signUp(one, "ann@example.com");
  await logIn(other, "ann@example.com");
  const entries = [];
  one.on("framenavigated", (frame) => entries.push(frame.url()));
  for (const title of ["After one token", "After another"]) {
    await one.waitForResponse(async (answer) => /taskey_access=[^;]/.test((await answer.allHeaders())["set-cookie"] ?? ""));
    await add(one, title);
    await see(other, title);
  }
  if (entries.length) throw new Error(`the page was left for ${entries}`);
  await add(other, "And back");
  await see(one, "And back");
  const cookies = await one.evaluate(() => document.cookie);
  if (cookies) throw new Error(`a script can read ${cookies}`);
});
