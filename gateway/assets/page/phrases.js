// Reads a recurrence in plain English, such as “every 2nd Tuesday” or “every 3 weeks on Monday and Friday”. A text that has
// several meanings, or none, is not understood: a wrong rule would be noticed only when a task is missing.

const UNITS = new Map([["day", "DAILY"], ["week", "WEEKLY"], ["month", "MONTHLY"], ["year", "YEARLY"]]);
const ADVERBS = new Set([...UNITS.values()].map((frequency) => frequency.toLowerCase()));
const MONTHS = "january february march april may june july august september october november december".split(" ");
const MONTH_LENGTHS = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
const DAYS = "monday tuesday wednesday thursday friday saturday sunday".split(" ");
const WORKDAYS = ["MO", "TU", "WE", "TH", "FR"];
const GROUPS = new Map([["weekday", WORKDAYS], ["workday", WORKDAYS], ["weekend", ["SA", "SU"]]]);
const ORDINALS = new Map([["first", 1], ["second", 2], ["third", 3], ["fourth", 4], ["fifth", 5], ["last", -1]]);
const PREPOSITIONS = /^(of|in)$/;
const ARTICLES = /^(every|each|the|a)$/;
const FILLERS = /^(every|each|on|the|of|in|and|a)$/;
/** No month has more workdays. */
const MAX_WORKDAYS = 23;

/** Returns the rule (RFC 5545) of a text, or `undefined` if it is not understood. */
export function ruleOfText(text) {
  const words = text.toLowerCase().replace(/,/g, " and ").replace(/\./g, " ").split(/\s+/).filter(Boolean);
  const phrase = new Phrase(words);
  return phrase.read() ? phrase.rule() : undefined;
}

/** The parts of a text. A step that reads a part returns whether it is understood. */
class Phrase {
  #words;
  #at = 0;
  /** The unit after “every”, and after “of”: both are months in “every 2 months on the last day of the month”. */
  #frequency = "";
  #interval = 1;
  #scope = "";
  #parts = { months: [], monthDays: [], positions: [], ordinalDays: [], days: [] };
  /** The name of the last part. Parts that alternate, as in “5 May and 6 June”, have no common rule. */
  #last = "";
  /** Whether a number is a day of a month only if the text has a month: “every 15” could be 15 days. */
  #needsMonth = false;

  constructor(words) {
    this.#words = words;
  }

  read() {
    while (this.#at < this.#words.length) {
      if (FILLERS.test(this.#words[this.#at])) this.#at++;
      else if (!(numberOf(this.#words[this.#at]) ? this.#readNumbers() : this.#readName())) return false;
    }
    return true;
  }

  /** Reads a name of a unit, a day or a month. */
  #readName() {
    const isAfterPreposition = this.#isAfterPreposition();
    const word = this.#words[this.#at++];
    const unit = ADVERBS.has(word) ? word.toUpperCase() : unitOf(word);
    if (unit) return isAfterPreposition && !ADVERBS.has(word) ? this.#setScope(unit) : this.#setFrequency(unit, 1);
    if (word === "other") return this.#readOther();
    const month = nameIndex(word, MONTHS) + 1;
    const days = daysOf(word);
    if (days) return this.#add("days", days);
    return month > 0 && this.#add("months", [month]);
  }

  /** Reads what follows “other”, which means every second one. */
  #readOther() {
    const next = this.#words[this.#at] ?? "";
    if (unitOf(next)) {
      this.#at++;
      return this.#setFrequency(unitOf(next), 2);
    }
    const isClear = nameIndex(next, DAYS) >= 0 || singular(next) === "weekend";
    return isClear && this.#setFrequency("WEEKLY", 2);
  }

  /** Reads numbers, such as “2nd and 4th”, and the name after them. */
  #readNumbers() {
    const numbers = [];
    for (let at = this.#at; at < this.#words.length; at++) {
      const number = numberOf(this.#words[at]);
      if (number) {
        numbers.push(number);
        this.#at = at + 1;
      } else if (!/^(and|the)$/.test(this.#words[at])) break;
    }
    const next = this.#words[this.#at] ?? "";
    const values = numbers.map(({ value }) => value);
    const areOrdinals = numbers.every(({ isOrdinal }) => isOrdinal);
    if (!unitOf(next) && !daysOf(next)) {
      this.#needsMonth ||= numbers.some(({ isDigits, isOrdinal }) => !isDigits || !isOrdinal);
      return !values.includes(-1) && this.#addMonthDays(values);
    }
    this.#at++;
    if (unitOf(next)) return this.#readUnit(unitOf(next), values, areOrdinals);
    return areOrdinals && this.#readOrdinalDays(values, next);
  }

  /** Handles a unit after numbers: “3 weeks”, “2nd week”, or a day of a month. */
  #readUnit(unit, values, areOrdinals) {
    const [value] = values;
    const isInMonth = values.length > 1 || value === -1 || value === 1 || this.#isBeforePreposition() || this.#frequency;
    if (unit === "DAILY" && areOrdinals && isInMonth) return this.#addMonthDays(values);
    return values.length === 1 && value >= (areOrdinals ? 2 : 1) && this.#setFrequency(unit, value);
  }

  #readOrdinalDays(values, name) {
    if (daysOf(name) === WORKDAYS) {
      // Without a month, “every 2nd weekday” could be every other one.
      this.#needsMonth ||= values.some((value) => value > 1);
      return areWithin(values, MAX_WORKDAYS) && this.#add("positions", values);
    }
    // The first weekend of a month can begin on a Sunday.
    const isDay = nameIndex(name, DAYS) >= 0;
    return isDay && areWithin(values, 5) && this.#add("ordinalDays", values.map((value) => `${value}${daysOf(name)}`));
  }

  #addMonthDays(values) {
    return areWithin(values, 31) && this.#add("monthDays", values);
  }

  #add(name, values) {
    const part = this.#parts[name];
    if (part.length && this.#last !== name) return false;
    this.#last = name;
    part.push(...values.filter((value) => !part.includes(value)));
    return true;
  }

  #setFrequency(unit, interval) {
    if (this.#frequency) return false;
    [this.#frequency, this.#interval] = [unit, interval];
    return true;
  }

  #setScope(unit) {
    if (this.#scope || unit === "DAILY") return false;
    this.#scope = unit;
    return true;
  }

  /** Reports whether the next word follows “of” or “in”: “of every month” says in which unit the days are. */
  #isAfterPreposition() {
    let at = this.#at - 1;
    while (at >= 0 && ARTICLES.test(this.#words[at])) at--;
    return PREPOSITIONS.test(this.#words[at] ?? "");
  }

  #isBeforePreposition() {
    return PREPOSITIONS.test(this.#words[this.#at] ?? "");
  }

  /** Returns the rule, or `undefined` if the parts do not fit together. */
  rule() {
    const { months, monthDays, positions, ordinalDays, days } = this.#parts;
    const inMonth = monthDays.length + positions.length + ordinalDays.length > 0;
    const usual = months.length ? "YEARLY" : inMonth ? "MONTHLY" : days.length ? "WEEKLY" : "";
    const frequency = this.#frequency || this.#scope || usual;
    if (!frequency || !this.#fits(frequency, inMonth)) return undefined;
    const rule = [`FREQ=${frequency}`];
    if (this.#interval > 1) rule.push(`INTERVAL=${this.#interval}`);
    if (months.length) rule.push(`BYMONTH=${months}`);
    if (monthDays.length) rule.push(`BYMONTHDAY=${monthDays}`);
    const weekdays = positions.length ? WORKDAYS : [...days, ...ordinalDays];
    if (weekdays.length) rule.push(`BYDAY=${weekdays}`);
    if (positions.length) rule.push(`BYSETPOS=${positions}`);
    return rule.join(";");
  }

  #fits(frequency, inMonth) {
    const { months, days } = this.#parts;
    const hasMonth = months.length || [this.#frequency, this.#scope].includes("MONTHLY") || this.#scope === "YEARLY";
    if (this.#needsMonth && !hasMonth) return false;
    if (!this.#daysFit() || !this.#scopeFits(inMonth)) return false;
    switch (frequency) {
      case "DAILY":
        return !inMonth && (!days.length || this.#interval === 1);
      case "WEEKLY":
        return !inMonth;
      case "MONTHLY":
        if (months.length) return inMonth && this.#interval === 1;
        // “Every month on Monday” could be any one Monday.
        return inMonth || !days.length || (!this.#frequency && this.#interval === 1);
      default:
        return this.#fitsYear(inMonth);
    }
  }

  /** The days of a year need a month, except in “the first Monday of the year”. */
  #fitsYear(inMonth) {
    const { months, monthDays, days } = this.#parts;
    const exist = monthDays.every((day) => months.every((month) => day <= MONTH_LENGTHS[month - 1]));
    if (months.length) return exist;
    return !monthDays.length && (!(inMonth || days.length) || (this.#scope === "YEARLY" && !this.#frequency));
  }

  /** Days of different kinds have no common rule, except “Friday the 13th”. */
  #daysFit() {
    const { months, monthDays, positions, ordinalDays, days } = this.#parts;
    const kinds = [monthDays, positions, ordinalDays, days].filter((part) => part.length);
    if (kinds.length < 2) return true;
    const isOneDate = kinds.length === 2 && days.length === 1 && monthDays.length === 1 && !months.length;
    return isOneDate && !this.#words.includes("and");
  }

  /** “Every day of the week” is every day, but “every 2nd week of the month” is not every other week. */
  #scopeFits(inMonth) {
    if (!this.#scope || !this.#frequency || this.#scope === this.#frequency) return true;
    const { months, days } = this.#parts;
    const order = [...UNITS.values()];
    const isLonger = order.indexOf(this.#scope) > order.indexOf(this.#frequency);
    return isLonger && this.#interval === 1 && !inMonth && !days.length && !months.length;
  }
}

const singular = (word) => word.replace(/s$/, "");
const areWithin = (values, max) => values.every((value) => value !== 0 && value <= max);
const unitOf = (word) => UNITS.get(singular(word));

/** Returns the number that a word stands for, or `undefined`. */
function numberOf(word) {
  if (ORDINALS.has(word)) return { value: ORDINALS.get(word), isOrdinal: true, isDigits: false };
  if (!/^\d{1,4}(st|nd|rd|th)?$/.test(word)) return undefined;
  return { value: Number.parseInt(word, 10), isOrdinal: /\D/.test(word), isDigits: true };
}

/** Returns the days that a name stands for, or `undefined`. */
function daysOf(word) {
  const index = nameIndex(word, DAYS);
  return index < 0 ? GROUPS.get(singular(word)) : [DAYS[index].slice(0, 2).toUpperCase()];
}

/** Returns the index of the name that a word stands for, or -1. Names can be shortened to three or more letters. */
function nameIndex(word, names) {
  return singular(word).length < 3 ? -1 : names.findIndex((name) => name.startsWith(singular(word)));
}
