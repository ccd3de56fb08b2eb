// Reads a recurrence in plain English, such as “every 2nd Tuesday” or “every 3 weeks on Monday and Friday”.

const UNITS = { day: "DAILY", week: "WEEKLY", month: "MONTHLY", year: "YEARLY", daily: "DAILY", weekly: "WEEKLY", monthly: "MONTHLY", yearly: "YEARLY" };
const MONTHS = "january february march april may june july august september october november december".split(" ");
const DAYS = "monday tuesday wednesday thursday friday saturday sunday".split(" ");
const GROUPS = { weekday: ["MO", "TU", "WE", "TH", "FR"], workday: ["MO", "TU", "WE", "TH", "FR"], weekend: ["SA", "SU"] };
const ORDINALS = { first: 1, second: 2, other: 2, third: 3, fourth: 4, fifth: 5, last: -1 };
const FILLERS = /^(every|each|on|the|of|in|and|a)$/;

/** Returns the rule (RFC 5545) of a text, or `undefined` if it is not understood. */
export function ruleOfText(text) {
  const words = text.toLowerCase().replace(/[,.]/g, " ").split(/\s+/).filter((word) => word && !FILLERS.test(word));
  const rule = { frequency: "", interval: 1, days: [], monthDays: [], months: [] };
  for (let at = 0; at < words.length;) {
    const used = readWord(rule, words, at);
    if (!used) return undefined;
    at += used;
  }
  return words.length ? format(rule) : undefined;
}

/** Reads the next word, and the one after it if they belong together. Returns how many it has read, 0 if it is unknown. */
function readWord(rule, words, at) {
  const [word, next = ""] = [words[at], words[at + 1]];
  const number = ORDINALS[word] ?? (/^\d{1,4}(st|nd|rd|th)?$/.test(word) ? Number.parseInt(word, 10) : undefined);
  if (number === undefined) return readName(rule, word);
  const isOrdinal = !/^\d+$/.test(word);
  const ofMonth = number < 0 || (isOrdinal && words[at + 2] === "month");
  if (unitOf(next) && !(unitOf(next) === "DAILY" && ofMonth)) {
    if (number < 1 || rule.frequency) return 0;
    [rule.frequency, rule.interval] = [unitOf(next), number];
    return 2;
  }
  if (word === "other" && dayOf(next)) {
    [rule.frequency, rule.interval] = ["WEEKLY", 2];
    rule.days.push(dayOf(next));
    return 2;
  }
  if (isOrdinal && dayOf(next)) return number <= 5 ? (rule.days.push(`${number}${dayOf(next)}`), 2) : 0;
  if (number === 0 || number > 31 || (number < 0 && unitOf(next) !== "DAILY")) return 0;
  rule.monthDays.push(number);
  return unitOf(next) === "DAILY" ? 2 : 1;
}

function readName(rule, word) {
  const [month, day] = [MONTHS.indexOf(nameOf(word, MONTHS)) + 1, dayOf(word)];
  if (unitOf(word)) rule.frequency ||= unitOf(word);
  else if (day) rule.days.push(day);
  else if (month) rule.months.push(month);
  else if (singular(word) in GROUPS) rule.days.push(...GROUPS[singular(word)]);
  else return 0;
  return 1;
}

const singular = (word) => word.replace(/s$/, "");
const unitOf = (word) => UNITS[singular(word)];
const dayOf = (word) => nameOf(word, DAYS)?.slice(0, 2).toUpperCase();

/** Returns the name that a word stands for. Names can be shortened to three or more letters. */
function nameOf(word, names) {
  return singular(word).length < 3 ? undefined : names.find((name) => name.startsWith(singular(word)));
}

function format({ frequency, interval, days, monthDays, months }) {
  const inMonth = monthDays.length > 0 || days.some((day) => day.length > 2);
  const usual = months.length ? "YEARLY" : inMonth ? "MONTHLY" : days.length ? "WEEKLY" : "";
  const rule = [`FREQ=${frequency || usual}`];
  if (!frequency && !usual) return undefined;
  if (interval > 1) rule.push(`INTERVAL=${interval}`);
  if (months.length) rule.push(`BYMONTH=${months}`);
  if (monthDays.length) rule.push(`BYMONTHDAY=${monthDays}`);
  if (days.length) rule.push(`BYDAY=${days}`);
  return rule.join(";");
}
