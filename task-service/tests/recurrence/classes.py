"""The differences between the naive algorithm and other implementations. task-service/README.md explains them."""

import rules

EQUAL = "equal"
UNEXPLAINED = "unexplained"
TURN_OF_THE_YEAR = "days at the turn of the year are in another week than by ISO 8601"

# An interpretation that makes the naive algorithm return exactly what the other implementation returns.
INTERPRETATIONS = [
    ("BYWEEKNO alone selects all days of a week", {"whole_weeks": True}),
    ("BYWEEKNO selects within calendar years", {"calendar_years": True}),
    ("BYWEEKNO selects all days of a week, within calendar years", {"whole_weeks": True, "calendar_years": True}),
    ("BYSETPOS counts from the anchor in the first week", {"partial_week": True}),
    ("BYMONTHDAY without BYMONTH selects in the month of the anchor", {"one_month": True}),
]


def by_parts(parts):
    """Yields the classes of differences of libical to which a rule can belong, by its parts."""
    if "BYSETPOS" in parts:
        yield "libical: BYSETPOS"
    if parts["FREQ"] == "DAILY" and min(parts.get("BYMONTHDAY", [1])) < 0:
        yield "libical: negative BYMONTHDAY with FREQ=DAILY"
    if parts["FREQ"] == "WEEKLY" and parts.get("INTERVAL", 1) > 1:
        yield "libical: FREQ=WEEKLY with INTERVAL"
    if "BYWEEKNO" in parts:
        yield "libical: BYWEEKNO"
    if "BYYEARDAY" in parts:
        yield "libical: BYYEARDAY"
    if parts["FREQ"] in ("MONTHLY", "YEARLY") and parts["SKIP"] == "FORWARD":
        yield "libical: SKIP=FORWARD"
    if parts["SKIP"] == "BACKWARD" and min(parts.get("BYMONTHDAY", [1])) < -28:
        yield "libical: SKIP=BACKWARD before the first of a month"


def classify(name, parts, anchor, ours, theirs):
    if ours == theirs:
        return EQUAL
    if isinstance(theirs, str):
        return theirs
    for explanation, flags in INTERPRETATIONS:
        naive = rules.Naive(parts, anchor, **flags)
        if [f"{time:%Y%m%dT%H%M%S}" for time in naive.occurrences()] == theirs:
            return explanation
    if name == "libical":
        return next(by_parts(parts), UNEXPLAINED)
    has_last_weeks = {52, 53, -52, -53} & set(parts.get("BYWEEKNO", []))
    return TURN_OF_THE_YEAR if has_last_weeks else UNEXPLAINED
