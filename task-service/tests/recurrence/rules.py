"""Random recurrence rules, and their occurrences by an independent algorithm that tests one day after the other."""

import datetime
import random

WEEKDAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]
# The days that are compared, and the number of occurrences.
HORIZON_DAYS = 3000
LIMIT = 10
FIRST_DAY = datetime.date(1994, 1, 1)
DAYS = [(date, date.weekday()) for date in (FIRST_DAY + datetime.timedelta(days=day) for day in range(12000))]


def random_rule(rng):
    """Returns the parts of a valid rule, and its anchor."""
    frequency = rng.choice(["DAILY", "WEEKLY", "MONTHLY", "MONTHLY", "YEARLY", "YEARLY", "YEARLY"])
    parts = {"FREQ": frequency}

    def numbers(population, most):
        return rng.sample(list(population), rng.randint(1, most))

    def ordinals(most, count):
        return [number * rng.choice([1, 1, -1]) for number in numbers(range(1, most + 1), count)]

    if rng.random() < 0.4:
        parts["INTERVAL"] = rng.choice([2, 2, 3, 4, 5, 7, 12])
    if rng.random() < 0.3:
        parts["BYMONTH"] = numbers(range(1, 13), 4)
    if frequency == "YEARLY" and rng.random() < 0.2:
        parts["BYWEEKNO"] = ordinals(53, 3) + rng.choice([[], [1], [-1], [53]])
    if frequency == "YEARLY" and rng.random() < 0.2:
        parts["BYYEARDAY"] = ordinals(366, 3) + rng.choice([[], [1], [-1], [366], [-366]])
    if frequency != "WEEKLY" and rng.random() < 0.35:
        parts["BYMONTHDAY"] = ordinals(31, 4) + rng.choice([[], [31], [-1], [30, 31], [29]])
    if rng.random() < 0.45:
        days = rng.sample(WEEKDAYS, rng.choice([1, 1, 2, 3, 5]))
        if frequency in ("MONTHLY", "YEARLY") and "BYWEEKNO" not in parts and rng.random() < 0.5:
            most = 5 if frequency == "MONTHLY" or "BYMONTH" in parts else 53
            days = [str(rng.randint(1, most) * rng.choice([1, 1, -1])) + day for day in days]
        parts["BYDAY"] = days
    if rng.random() < 0.1:
        parts["BYHOUR"] = numbers(range(24), 3)
    if rng.random() < 0.05:
        parts["BYMINUTE"] = numbers(range(60), 2)
    if rng.random() < 0.03:
        parts["BYSECOND"] = numbers(range(60), 2)
    if rng.random() < 0.2 and any(name.startswith("BY") for name in parts):
        parts["BYSETPOS"] = ordinals(6, 2)
    if rng.random() < 0.2:
        parts["WKST"] = rng.choice(WEEKDAYS)
    anchor = datetime.datetime(1996, 1, 1) + datetime.timedelta(
        days=rng.randrange(6000), hours=rng.randrange(24), minutes=rng.choice([0, 15, 30]))
    if rng.random() < 0.2:
        anchor = anchor.replace(month=rng.choice([1, 3, 5, 7, 8, 10, 12]), day=rng.choice([29, 30, 31]))
    if rng.random() < 0.2:
        parts["COUNT"] = rng.randint(1, 8)
    elif rng.random() < 0.2:
        until = anchor + datetime.timedelta(days=rng.randrange(1500))
        parts["UNTIL"] = until.strftime(rng.choice(["%Y%m%dT%H%M%S", "%Y%m%d"]))
    # libical requires sorted lists.
    parts = {name: sorted(value) if isinstance(value, list) else value for name, value in parts.items()}
    parts["SKIP"] = rng.choice(["OMIT", "OMIT", "OMIT", "BACKWARD", "FORWARD"])
    return parts, anchor


def text(parts, **changes):
    """Returns the rule as text; `changes` replaces parts, or removes them if they are None."""
    values = {**parts, **changes}
    join = lambda value: ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return ";".join(f"{name}={join(value)}" for name, value in values.items() if value is not None)


def week_start(date, first):
    return date - datetime.timedelta(days=(date.weekday() - first) % 7)


def week_year(date, first):
    """Returns the year of the week of a date: that of the fourth day of the week."""
    return (week_start(date, first) + datetime.timedelta(days=3)).year


def week_number(date, first):
    middle = week_start(date, first) + datetime.timedelta(days=3)
    return (middle.timetuple().tm_yday - 1) // 7 + 1


def days_in_month(date):
    return ((date.replace(day=28) + datetime.timedelta(days=4)).replace(day=1) - datetime.timedelta(days=1)).day


def days_in_year(year):
    return 366 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 365


def replaced(first, length, numbers, skip):
    """Yields the dates of the numbered days of a period; `skip` decides on numbers beyond its length."""
    for number in numbers:
        offset = number - 1 if number > 0 else length + number
        if offset < 0 and skip != "OMIT":
            offset = 0 if skip == "FORWARD" else -1
        elif offset >= length and skip != "OMIT":
            offset = length if skip == "FORWARD" else length - 1
        elif not 0 <= offset < length:
            continue
        yield first + datetime.timedelta(days=offset)


class Naive:
    """Tests each day of the calendar, where the engine constructs the days of a period."""

    def __init__(self, parts, anchor, whole_weeks=False, calendar_years=False, partial_week=False, one_month=False):
        """The flags select how other implementations interpret a rule; see `classes.py`."""
        self.calendar_years, self.partial_week = calendar_years, partial_week
        self.limit = min(LIMIT, parts.get("COUNT", LIMIT))
        self.replacements = {}
        self.parts, self.anchor = parts, anchor
        self.frequency, self.skip = parts["FREQ"], parts["SKIP"]
        self.interval = parts.get("INTERVAL", 1)
        self.first = WEEKDAYS.index(parts.get("WKST", "MO"))
        self.months = parts.get("BYMONTH")
        self.month_days, self.year_days = parts.get("BYMONTHDAY"), parts.get("BYYEARDAY")
        self.weeks, self.days = parts.get("BYWEEKNO"), parts.get("BYDAY")
        self.add_days_of_anchor(whole_weeks, one_month)
        self.anchor_period = self.calendar_period(anchor.date())

    def add_days_of_anchor(self, whole_weeks, one_month):
        anchor = self.anchor
        if one_month and self.frequency == "YEARLY" and self.month_days and not (self.months or self.weeks):
            self.months = [anchor.month]
        if not (self.month_days or self.year_days or self.days) and self.frequency != "DAILY":
            if whole_weeks and self.weeks:
                return
            if self.frequency == "WEEKLY" or self.weeks:
                self.days = [WEEKDAYS[anchor.weekday()]]
            else:
                self.month_days = [anchor.day]
                if self.frequency == "YEARLY" and not self.months:
                    self.months = [anchor.month]

    def calendar_period(self, date):
        """Returns the number of the period to which a date belongs by the calendar."""
        if self.frequency == "DAILY":
            return date.toordinal()
        if self.frequency == "WEEKLY":
            return week_start(date, self.first).toordinal() // 7
        if self.frequency == "MONTHLY":
            return date.year * 12 + date.month - 1
        return week_year(date, self.first) if self.weeks and not self.calendar_years else date.year

    def selected_by_month(self, year, month):
        """Returns the dates that BYMONTHDAY selects in a month, after replacement."""
        key = (year, month)
        if key not in self.replacements:
            first = datetime.date(year, month, 1)
            listed = not self.months or month in self.months
            self.replacements[key] = set(
                replaced(first, days_in_month(first), self.month_days, self.skip)) if listed else set()
        return self.replacements[key]

    def selected_by_year(self, year):
        if year not in self.replacements:
            first = datetime.date(year, 1, 1)
            self.replacements[year] = set(replaced(first, days_in_year(year), self.year_days, self.skip))
        return self.replacements[year]

    def month_periods(self, date):
        """Returns the months, as numbers, whose BYMONTHDAY selects the date."""
        index = date.year * 12 + date.month - 1
        return {other for other in (index - 1, index, index + 1) if date in self.selected_by_month(other // 12, other % 12 + 1)}

    def periods(self, date):
        """Returns the periods of which the date is an element."""
        if self.days and not self.is_weekday(date):
            return set()
        month_listed = not self.months or date.month in self.months
        own = self.calendar_period(date)
        if self.frequency == "DAILY":
            if self.month_days:
                length = days_in_month(date)
                if not any(day in (date.day, date.day - length - 1) for day in self.month_days):
                    return set()
            periods = {own} if month_listed else set()
        elif self.frequency == "WEEKLY":
            periods = {own} if month_listed else set()
        elif self.frequency == "MONTHLY":
            periods = self.month_periods(date) if self.month_days else {own} if month_listed else set()
        else:
            years = {date.year - 1, date.year, date.year + 1}
            by_year = {year for year in years if date in self.selected_by_year(year)} if self.year_days else None
            if self.month_days:
                periods = {month // 12 for month in self.month_periods(date)}
                if by_year is not None:
                    periods &= by_year
            elif by_year is not None:
                periods = by_year if month_listed else set()
            else:
                periods = {date.year} if month_listed else set()
            if self.weeks and periods:
                number = week_number(date, self.first)
                last = week_number(self.last_day_of_weeks(week_year(date, self.first)), self.first)
                periods = {own} if number in self.weeks or number - last - 1 in self.weeks else set()
        return {period for period in periods if (period - self.anchor_period) % self.interval == 0}

    def last_day_of_weeks(self, year):
        """Returns the last day of the last week of a year of weeks."""
        return week_start(datetime.date(year + 1, 1, 4), self.first) - datetime.timedelta(days=1)

    def is_weekday(self, date):
        name = WEEKDAYS[date.weekday()]
        for day in self.days:
            if day[-2:] != name:
                continue
            if len(day) == 2:
                return True
            in_month = self.frequency == "MONTHLY" or self.parts.get("BYMONTH")
            position = date.day if in_month else date.timetuple().tm_yday
            length = days_in_month(date) if in_month else days_in_year(date.year)
            number = int(day[:-2])
            if number == (position - 1) // 7 + 1 or -number == (length - position) // 7 + 1:
                return True
        return False

    def times(self):
        anchor, parts = self.anchor, self.parts
        return sorted(
            datetime.time(hour, minute, second)
            for hour in parts.get("BYHOUR", [anchor.hour])
            for minute in parts.get("BYMINUTE", [anchor.minute])
            for second in parts.get("BYSECOND", [anchor.second]))

    def occurrences(self):
        """Returns the first occurrences before the horizon."""
        positions, times = self.parts.get("BYSETPOS"), self.times()
        # The period that contains the anchor can begin long before it, which BYSETPOS can tell.
        date = self.anchor.date() - datetime.timedelta(days=380 if positions else 3)
        if self.partial_week and self.frequency == "WEEKLY":
            date = self.anchor.date()
        end = self.end()
        last = end.date() + datetime.timedelta(days=380 if positions else 0)
        elements, found = {}, []
        for date in self.candidates(date, last):
            for period in self.periods(date):
                elements.setdefault(period, []).extend(datetime.datetime.combine(date, time) for time in times)
            # A period is complete when the one after the next has begun; without BYSETPOS, each day is complete.
            current = self.calendar_period(date)
            for period in sorted(period for period in elements if not positions or period < current - 1):
                found += self.selected(elements.pop(period), positions)
            if len(found) >= self.limit:
                found = sorted(time for time in set(found) if self.anchor <= time <= end)
                if len(found) >= self.limit:
                    break
        for period in sorted(elements):
            found += self.selected(elements[period], positions)
        return sorted(time for time in set(found) if self.anchor <= time <= end)[:self.limit]

    def candidates(self, start, end):
        """Yields the days that may match. Most days are excluded by their numbers alone."""
        weekdays = {WEEKDAYS.index(day[-2:]) for day in self.days} if self.days else set(range(7))
        near = {offset for offset in (-1, 0, 1)} if self.month_days or self.year_days else {0}
        months = {(month + offset - 1) % 12 + 1 for month in self.months or range(1, 13) for offset in near}
        ends = set() if self.skip == "OMIT" else {1, 28, 29, 30, 31}
        days = set(range(1, 32))
        if self.month_days:
            days = {day if day > 0 else length + 1 + day for day in self.month_days for length in range(28, 32)} | ends
        for date, weekday in DAYS[(start - FIRST_DAY).days:(end - FIRST_DAY).days + 1]:
            if weekday in weekdays and date.day in days and date.month in months:
                yield date

    @staticmethod
    def selected(members, positions):
        """Returns the members of a period at the positions, or all if there are none."""
        if not positions:
            return members
        indices = (position - 1 if position > 0 else len(members) + position for position in positions)
        return [members[index] for index in indices if 0 <= index < len(members)]

    def end(self):
        """Returns the last time that is compared."""
        horizon = self.anchor + datetime.timedelta(days=HORIZON_DAYS)
        until = self.parts.get("UNTIL")
        if not until:
            return horizon
        return min(horizon, datetime.datetime.strptime(until if "T" in until else until + "T235959", "%Y%m%dT%H%M%S"))


def random_rules(seed, count):
    rng = random.Random(seed)
    return [random_rule(rng) for _ in range(count)]
