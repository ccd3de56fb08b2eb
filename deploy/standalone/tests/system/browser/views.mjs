// The devices on which the views are checked, and the check of one view. Without motion, because a button that has just
// been enabled does not have its colours yet.
import { takeScreenshot } from "./support.mjs";

export const DEVICES = {
  light: { reducedMotion: "reduce", colorScheme: "light", viewport: { width: 1100, height: 760 } },
  dark: { reducedMotion: "reduce", colorScheme: "dark", viewport: { width: 1100, height: 760 } },
  phone: { reducedMotion: "reduce", colorScheme: "light", viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true },
};

/** Returns a function that saves a screenshot of a view of the page, and fails if axe finds something. */
export function viewChecker(page, device) {
  return async (view) => {
    await takeScreenshot(page, `${view}-${device}`);
    const { violations } = await page.evaluate(() => globalThis.axe.run(document));
    const findings = violations.map(({ id, nodes }) => [id, nodes.map((node) => [node.html, node.failureSummary])]);
    if (findings.length) throw new Error(`${view}, ${device}: ${JSON.stringify(findings, null, 1)}`);
    // On a phone, `innerWidth` grows with the content.
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (overflow > 0) throw new Error(`${view}, ${device}: ${overflow} px too wide`);
  };
}
