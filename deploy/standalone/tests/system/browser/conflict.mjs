// Two people edit the same task; the later one is told, and what both have changed is kept.
import { add, edit, inBrowser, logIn, open, read, row, save, see, signUp } from "./support.mjs";

await inBrowser(async () => {
  const [one, other] = [await open(), await open()];
  await signUp(one, "ann@example.com");
  await add(one, "Paint the kitchen");
  await logIn(other, "ann@example.com");
  await see(other, "Paint the kitchen");

  const mine = await edit(one, "Paint the kitchen", { Notes: "Not white again" });
  await save(await edit(other, "Paint the kitchen", { Title: "Paint the hall" }));
  await see(other, "Paint the hall");
  await save(mine);
  await read(one, "changed elsewhere while you were editing it; there it reads “Paint the hall”");
  await save(mine);
  await see(one, "Paint the hall");
  await row(other, "Paint the hall").getByText("Not white again").waitFor();
});
