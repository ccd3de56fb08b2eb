// Recurrences in plain English: usual texts have the right rule, and no combination of the words has a rule that leaves out
// or mixes what the text says.
import { openPage, runInBrowser, signUp } from "./support.mjs";

/** Rules by texts in plain English, and texts that are not understood. */
const RULES = {
  daily: "FREQ=DAILY",
  "every other day": "FREQ=DAILY;INTERVAL=2",
  "every 2nd day": "FREQ=DAILY;INTERVAL=2",
  "every day of the week": "FREQ=DAILY",
  "every day in January": "FREQ=DAILY;BYMONTH=1",
  "Mondays and Thurs": "FREQ=WEEKLY;BYDAY=MO,TH",
  "every Monday, Wednesday and Friday": "FREQ=WEEKLY;BYDAY=MO,WE,FR",
  "every weekday": "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR",
  "every other Monday": "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO",
  "every other weekend": "FREQ=WEEKLY;INTERVAL=2;BYDAY=SA,SU",
  "every 2nd week on Monday": "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO",
  "every 3 weeks on Monday and Friday": "FREQ=WEEKLY;INTERVAL=3;BYDAY=MO,FR",
  "the second Tuesday of the month": "FREQ=MONTHLY;BYDAY=2TU",
  "every 2nd and 4th Tuesday": "FREQ=MONTHLY;BYDAY=2TU,4TU",
  "1st and 3rd Monday": "FREQ=MONTHLY;BYDAY=1MO,3MO",
  "the first and the third Monday of each month": "FREQ=MONTHLY;BYDAY=1MO,3MO",
  "1st Monday and last Friday": "FREQ=MONTHLY;BYDAY=1MO,-1FR",
  "every 3 months on the last Friday": "FREQ=MONTHLY;INTERVAL=3;BYDAY=-1FR",
  "first weekday of the month": "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=1",
  "every month on the last workday": "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
  "10th workday of every 3 months": "FREQ=MONTHLY;INTERVAL=3;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=10",
  "every 1st and 15th": "FREQ=MONTHLY;BYMONTHDAY=1,15",
  "every 15th and last day": "FREQ=MONTHLY;BYMONTHDAY=15,-1",
  "the 15th of the month": "FREQ=MONTHLY;BYMONTHDAY=15",
  "the 1st of every 2nd month": "FREQ=MONTHLY;INTERVAL=2;BYMONTHDAY=1",
  "every 2nd day of the month": "FREQ=MONTHLY;BYMONTHDAY=2",
  "every last day": "FREQ=MONTHLY;BYMONTHDAY=-1",
  "Friday the 13th": "FREQ=MONTHLY;BYMONTHDAY=13;BYDAY=FR",
  "every 5th of May": "FREQ=YEARLY;BYMONTH=5;BYMONTHDAY=5",
  "2nd day of May": "FREQ=YEARLY;BYMONTH=5;BYMONTHDAY=2",
  "every year on Sept 1": "FREQ=YEARLY;BYMONTH=9;BYMONTHDAY=1",
  "the 1st and 15th of May and June": "FREQ=YEARLY;BYMONTH=5,6;BYMONTHDAY=1,15",
  "the first Monday of September": "FREQ=YEARLY;BYMONTH=9;BYDAY=1MO",
  "the last Friday of the year": "FREQ=YEARLY;BYDAY=-1FR",
};
const UNKNOWN = [
  "", "every", "every 0 days", "every 1 2 weeks", "every 2 weeks every 3 days", "every 2nd week of the month", "every 3 days a week",
  "every 32nd", "every 6th Monday", "every 3 Mondays", "every last", "every second", "every 15", "every Monday at 9", "every marathon",
  "every constructor", "every Monday and 15th", "every week on the 15th", "every month on Monday", "every second weekend",
  "every other weekday", "every 5th weekday", "first weekend of the month", "first Monday and Friday", "1st Monday and 15th",
  "Monday and the first weekday", "last day of the year", "every 30 February", "5 May and 6 June",
];

const WORDS = [
  "every", "and", "of", "first", "2nd", "last", "3", "other", "day", "weeks", "month", "year", "weekday", "weekend", "Tuesday", "Friday", "May",
];
const MAX_WORDS = 4;

await runInBrowser(async () => {
  const page = await openPage();
  await signUp(page, "ann@example.com");
  const texts = [...Object.keys(RULES), ...UNKNOWN];
  const rules = await page.evaluate(async (texts) => {
    const { ruleOfText } = await import("./page/phrases.js");
    return texts.map((text) => ruleOfText(text));
  }, texts);
  for (const [index, text] of texts.entries()) {
    if (rules[index] !== RULES[text]) throw new Error(`${text}: ${rules[index]} instead of ${RULES[text]}`);
  }
  const combinations = await page.evaluate(rulesOfCombinations, { words: WORDS, maxWords: MAX_WORDS });
  const faults = combinations.flatMap(([rule, texts]) => texts.map((text) => [text, rule, fault(text, rule)]));
  const found = faults.filter(([, , fault]) => fault);
  if (found.length) throw new Error(`${found.length} of ${faults.length}: ${JSON.stringify(found.slice(0, 20))}`);
  if (combinations.length < 400) throw new Error(`only ${combinations.length} rules`);
  for (const [rule, [text]] of combinations) await expectAccepted(page, text, rule);
});

/** Returns the rules of all texts of at most `maxWords` words, each with its texts. Runs in the page. */
async function rulesOfCombinations({ words, maxWords }) {
  const { ruleOfText } = await import("./page/phrases.js");
  const textsByRule = new Map();
  const visit = (text, length) => {
    const rule = ruleOfText(text);
    if (rule && !textsByRule.has(rule)) textsByRule.set(rule, []);
    if (rule) textsByRule.get(rule).push(text);
    if (length < maxWords) for (const word of words) visit(`${text} ${word}`, length + 1);
  };
  for (const word of words) visit(word, 1);
  return [...textsByRule];
}

/** Returns what a rule leaves out of its text or mixes, or an empty string. */
function fault(text, rule) {
  const words = text.split(" ");
  const { FREQ, INTERVAL = "1", ...days } = Object.fromEntries(rule.split(";").map((part) => part.split("=")));
  const [monthDays, weekdays, positions, months] = ["BYMONTHDAY", "BYDAY", "BYSETPOS", "BYMONTH"].map((name) => days[name]?.split(",") ?? []);
  const ordinals = weekdays.map((day) => day.slice(0, -2)).filter(Boolean);
  const numbers = [INTERVAL, ...monthDays, ...positions, ...ordinals];
  const names = { Tuesday: ["TU"], Friday: ["FR"], weekday: ["MO", "TU", "WE", "TH", "FR"], weekend: ["SA", "SU"] };
  const values = { first: "1", "2nd": "2", last: "-1", 3: "3", other: "2" };
  for (const word of words) {
    if (word in values && !numbers.includes(values[word])) return `leaves out ${word}`;
    if (word === "first" && ![...monthDays, ...positions, ...ordinals].includes("1")) return "leaves out first";
    if (word in names && !names[word].every((day) => weekdays.some((weekday) => weekday.endsWith(day)))) return `leaves out ${word}`;
    if (word === "May" && !months.includes("5")) return "leaves out the month";
  }
  if (ordinals.length && ordinals.length < weekdays.length) return "mixes every and some weekdays";
  if (positions.length && weekdays.length !== 5) return "has positions of few days";
  if (monthDays.length && weekdays.length && (monthDays.length > 1 || weekdays.length > 1 || ordinals.length)) return "mixes weekdays and days of a month";
  if (monthDays.length && (FREQ === "DAILY" || FREQ === "WEEKLY")) return "has days of a month in a week";
  if (monthDays.length && FREQ === "YEARLY" && !months.length) return "has days of each month in a year";
  if ((ordinals.length || positions.length) && (FREQ === "DAILY" || FREQ === "WEEKLY")) return "has positions in a week";
  if (INTERVAL !== "1" && !words.some((word) => ["2nd", "3", "other"].includes(word))) return "has an interval";
  return "";
}

async function expectAccepted(page, text, rrule) {
  const query = new URLSearchParams({ rrule, start_date: "2030-01-01", page_size: 1 });
  const { dates, error } = await page.evaluate(async (path) => (await fetch(path)).json(), `./v1/recurrence:preview?${query}`);
  if (dates?.length !== 1) throw new Error(`${text}: ${rrule}: ${JSON.stringify(error ?? dates)}`);
}
