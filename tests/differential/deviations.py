"""Where Tidemill differs from DuckDB on purpose, each with its reason."""


def meant(query, ours, theirs):
    """Whether this difference is one of those. `ours` and `theirs` are each (rows, error)."""
    return any(rule(query, ours, theirs) for rule in RULES)


def sum_beyond_bigint(query, ours, theirs):
    """DuckDB's sum over integers is a 128-bit integer; Tidemill's is a bigint, and fails beyond it."""
    beyond = any(isinstance(value, int) and not -2**63 <= value < 2**63 for row in theirs[0] or [] for value in row)
    return beyond and "sum(" in query.tidemill and ours[1] is not None and "overflows bigint" in ours[1]


def leaving_the_calendar(_, ours, __):
    """Times before the year 1 and after 9999: DuckDB has them, and may show only a count of them; Tidemill fails."""
    return ours[1] is not None and "outside of the years 1 to 9999" in ours[1]


def nobody_asks(_, ours, theirs):
    """A query as a value with several rows fails; DuckDB does not mind where there is no row to have the value."""
    return ours[1] is not None and "gives more than one row" in ours[1] and theirs[0] == []


def by_negative_zero(query, ours, theirs):
    """`-0.0` is read as `0.0`: what is divided by it has the other sign."""
    def unsigned(rows):
        return sorted(str(["Infinity" if value == "-Infinity" else value for value in row]).replace("Z'", "'") for row in rows or [])

    return "/" in query.tidemill and unsigned(ours[0]) == unsigned(theirs[0]) and "Infinity" in str(ours[0])


RULES = [by_negative_zero, sum_beyond_bigint, leaving_the_calendar, nobody_asks]
