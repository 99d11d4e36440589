"""Where Tidemill differs from DuckDB on purpose, each with its reason."""

import re


def meant(query, ours, theirs):
    """Whether this difference is one of those. `ours` and `theirs` are each (rows, error)."""
    return any(rule(query, ours, theirs) for rule in RULES)


def sum_beyond_bigint(query, ours, _):
    """DuckDB's sum over integers is a 128-bit integer; Tidemill's is a bigint, and fails beyond it."""
    return "sum(" in query.tidemill and ours[1] is not None and "overflow" in ours[1].lower()


def outside_of_the_calendar(_, ours, theirs):
    """Times before the year 1 and after 9999: DuckDB has them, Tidemill promises the years 1 to 9999 only."""
    return any(OUTSIDE.search(str(value)) for row in theirs[0] or ours[0] or [] for value in row)


def leaving_the_calendar(_, ours, __):
    """A date that is moved out of the years 1 to 9999 fails; DuckDB goes on, and may show only a count of it."""
    return ours[1] is not None and "outside of the years 1 to 9999" in ours[1]


OUTSIDE = re.compile(r"\d{5,}-\d\d-\d\d|\(BC\)|^[+-]\d{4,}-|^0000-")

RULES = [sum_beyond_bigint, outside_of_the_calendar, leaving_the_calendar]
