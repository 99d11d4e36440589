"""Random data and random queries that Tidemill (DataFusion's dialect) and DuckDB both take."""

import dataclasses
import datetime
import decimal

BIGINT, INT, DOUBLE, STRING, BOOLEAN, DATE, TIMESTAMP, DECIMAL = (
    "bigint", "int", "double", "string", "boolean", "date", "timestamp", "decimal(12, 2)",
)
DUCK_TYPES = {STRING: "varchar"}


@dataclasses.dataclass(frozen=True)
class Source:
    name: str
    columns: dict

    def toml_columns(self):
        return ", ".join(f'{name} = "{kind}"' for name, kind in self.columns.items())

    def duck_columns(self):
        return ", ".join(f"{name} {DUCK_TYPES.get(kind, kind)}" for name, kind in self.columns.items())


SOURCES = [
    Source("t", {"id": BIGINT, "a": BIGINT, "b": INT, "d": DOUBLE, "e": DOUBLE, "s": STRING, "f": BOOLEAN,
                 "day": DATE, "ts": TIMESTAMP, "m": DECIMAL}),
    Source("u", {"id": BIGINT, "a": BIGINT, "d": DOUBLE, "s": STRING, "day": DATE, "m": DECIMAL}),
]

# Few values, so that keys meet; extremes among them.
VALUES = {
    BIGINT: ["0", "1", "2", "3", "-1", "7", "100", "9223372036854775807", "-9223372036854775808", "9007199254740993"],
    INT: ["0", "1", "-1", "2", "5", "46341", "2147483647", "-2147483648"],
    DOUBLE: ["0.0", "-0.0", "1.5", "-1.5", "2.0", "NaN", "-NaN", "inf", "-inf", "1e300", "-1e300", "5e-324", "0.1"],
    STRING: ["a", "b", "ab", "A", "Zoë", "x y", "-", "0", "\u65e5\u672c"],
    BOOLEAN: ["true", "false"],
    DATE: ["1970-01-01", "1969-12-31", "2024-02-29", "0001-01-01", "9999-12-31", "1600-03-01", "2262-04-12", "2023-12-31"],
    TIMESTAMP: ["1970-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "2024-02-29T12:34:56.789Z", "0001-01-01T00:00:00Z",
                "9999-12-31T23:59:59.999999Z", "1600-03-01T06:00:00Z", "2262-04-12T00:00:00Z", "2024-02-29T00:00:00Z"],
    DECIMAL: ["0.00", "0.01", "-0.01", "1.99", "2.50", "-2.50", "9999999999.99", "-9999999999.99", "100.00"],
}
# Those with which arithmetic succeeds; a batch is of one kind or the other, so that overflows do not end every query.
TAME = {
    BIGINT: VALUES[BIGINT][:7], INT: VALUES[INT][:6], DOUBLE: ["0.0", "-0.0", "1.5", "-1.5", "2.0", "0.1", "NaN", "inf"],
    DECIMAL: ["0.00", "0.01", "-0.01", "1.99", "2.50", "-2.50", "100.00"],
}


def parse(kind, text):
    if text == "\\N":
        return None
    if kind in (BIGINT, INT):
        return int(text)
    if kind == DOUBLE:
        return float(text.replace("-NaN", "nan").replace("NaN", "nan"))
    if kind == BOOLEAN:
        return text == "true"
    if kind == DATE:
        return datetime.date.fromisoformat(text)
    if kind == TIMESTAMP:
        return datetime.datetime.fromisoformat(text.replace("Z", ""))
    if kind == DECIMAL:
        return decimal.Decimal(text)
    return text


def rows_of(source, lines):
    return [[parse(kind, text) for kind, text in zip(source.columns.values(), line.split(","))] for line in lines]


@dataclasses.dataclass(frozen=True)
class Query:
    """The same query in both dialects."""

    tidemill: str
    duck: str


@dataclasses.dataclass(frozen=True)
class Sql:
    """A piece of SQL in both dialects."""

    ours: str
    duck: str

    def __format__(self, _):
        raise TypeError("join pieces with sql()")


def sql(template, *pieces):
    """Puts pieces into `{}`s, in both dialects."""
    pieces = [piece if isinstance(piece, Sql) else Sql(str(piece), str(piece)) for piece in pieces]
    return Sql(template.format(*(p.ours for p in pieces)), template.format(*(p.duck for p in pieces)))


def both(ours, duck):
    return Sql(ours, duck)


def commas(pieces):
    pieces = list(pieces)
    return Sql(", ".join(p.ours for p in pieces), ", ".join(p.duck for p in pieces))


class Generator:
    def __init__(self, random):
        self.random = random
        self.tame = random.random() < 0.7

    # Data

    def lines(self, source):
        rows = self.random.choice([0, 1, 2, 5, 12, 30, 30])
        return [self.line(source, i) for i in range(rows)]

    def line(self, source, number):
        return ",".join(str(number) if name == "id" else self.value(kind) for name, kind in source.columns.items())

    def value(self, kind):
        if self.random.random() < 0.2:
            return "\\N"
        values = TAME.get(kind, VALUES[kind]) if self.tame else VALUES[kind]
        return self.random.choice(values)

    # Expressions: of a type, over the columns of the tables at hand

    def pick(self, *choices):
        return self.random.choice(choices)

    def column(self, kind, tables):
        found = [f"{table.name}.{name}" for table in tables for name, of in table.columns.items() if of == kind]
        return Sql(*[self.random.choice(found)] * 2) if found else self.literal(kind)

    def literal(self, kind):
        if self.random.random() < 0.1:
            return sql(f"cast(null as {{}})", both(kind if kind != STRING else "varchar", DUCK_TYPES.get(kind, kind)))
        if kind == STRING:
            return sql("'{}'", self.random.choice(VALUES[STRING]))
        if kind == BOOLEAN:
            return sql("{}", self.pick("true", "false"))
        text = self.random.choice(TAME.get(kind, VALUES[kind]))
        if kind == DATE:
            return sql("date '{}'", text)
        if kind == TIMESTAMP:
            return sql("timestamp '{}'", text.replace("T", " ").replace("Z", ""))
        return sql("cast('{}' as {})", text.replace("-NaN", "NaN"), kind)

    def expression(self, kind, tables, depth):
        if depth <= 0 or self.random.random() < 0.25:
            return self.column(kind, tables) if self.random.random() < 0.8 else self.literal(kind)
        make = {BIGINT: self.bigint, INT: self.int, DOUBLE: self.double, STRING: self.string, BOOLEAN: self.boolean,
                DATE: self.date, TIMESTAMP: self.timestamp, DECIMAL: self.decimal}[kind]
        general = self.random.random()
        sub = lambda of: self.expression(of, tables, depth - 1)
        if general < 0.08:
            return sql("coalesce({}, {})", sub(kind), sub(kind))
        if general < 0.14:
            return sql("nullif({}, {})", sub(kind), sub(kind))
        if general < 0.22:
            return sql("case when {} then {} else {} end", sub(BOOLEAN), sub(kind), sub(kind))
        if general < 0.26:
            return sql("case {} when {} then {} end", sub(kind), sub(kind), sub(kind))
        if general < 0.30 and kind in (BIGINT, INT, DOUBLE, DATE, TIMESTAMP):
            return sql("{}({}, {})", self.pick("greatest", "least"), sub(kind), sub(kind))
        return make(sub)

    def bigint(self, sub):
        return self.pick(
            lambda: sql("({} {} {})", sub(BIGINT), self.pick("+", "-", "*"), sub(BIGINT)),
            lambda: sql("(- {})", sub(BIGINT)),
            lambda: sql("abs({})", sub(BIGINT)),
            lambda: sql("cast({} as bigint)", sub(INT)),
            lambda: sql("cast(character_length({}) as bigint)", sub(STRING)),
            lambda: sql("cast(extract({} from {}) as bigint)", self.pick("year", "month", "day", "doy", "quarter", "week"),
                        sub(self.pick(DATE, TIMESTAMP))),
            lambda: sql("cast(extract({} from {}) as bigint)", self.pick("hour", "minute"), sub(TIMESTAMP)),
            lambda: sql("({} % {})", sub(BIGINT), sql("nullif({}, 0)", sub(BIGINT))),
        )()

    def int(self, sub):
        return self.pick(
            lambda: sql("({} {} {})", sub(INT), self.pick("+", "-", "*"), sub(INT)),
            lambda: sql("(- {})", sub(INT)),
            lambda: sql("abs({})", sub(INT)),
        )()

    def double(self, sub):
        return self.pick(
            lambda: sql("({} {} {})", sub(DOUBLE), self.pick("+", "-", "*", "/"), sub(DOUBLE)),
            lambda: sql("(- {})", sub(DOUBLE)),
            lambda: sql("abs({})", sub(DOUBLE)),
            lambda: sql("{}({})", self.pick("floor", "ceil"), sub(DOUBLE)),
            lambda: sql("cast({} as double)", sub(self.pick(BIGINT, INT, DECIMAL))),
        )()

    def decimal(self, sub):
        return self.pick(
            lambda: sql("cast({} {} {} as decimal(12, 2))", sub(DECIMAL), self.pick("+", "-"), sub(DECIMAL)),
            lambda: sql("(- {})", sub(DECIMAL)),
            lambda: sql("abs({})", sub(DECIMAL)),
            lambda: sql("cast({} as decimal(12, 2))", sub(INT)),
            lambda: sql("cast('{}' as decimal(12, 2))", self.pick("1.005", "1.995", "-0.005", "2.344", "99.999")),
        )()

    def string(self, sub):
        return self.pick(
            lambda: sql("({} || {})", sub(STRING), sub(STRING)),
            lambda: sql("{}({})", self.pick("upper", "lower", "trim", "reverse"), sub(STRING)),
            lambda: sql("substr({}, {}, {})", sub(STRING), self.pick(1, 2), self.pick(0, 1, 5)),
            lambda: sql("replace({}, 'a', 'bc')", sub(STRING)),
            lambda: sql("cast({} as varchar)", sub(self.pick(BIGINT, INT))),
        )()

    def date(self, sub):
        return self.pick(
            lambda: sql("cast({} as date)", sub(TIMESTAMP)),
            lambda: sql("cast({} as date)", sub(DATE)),
        )()

    def timestamp(self, sub):
        return self.pick(
            lambda: sql("cast({} as timestamp)", sub(DATE)),
            lambda: sql("date_trunc('{}', {})", self.pick("second", "minute", "hour", "day", "week", "month", "quarter", "year"),
                        sub(TIMESTAMP)),
            lambda: sql("({} {} interval '{}')", sub(TIMESTAMP), self.pick("+", "-"),
                        self.pick("1 day", "1 month", "1 hour", "90 seconds")),
        )()

    def boolean(self, sub):
        kind = self.pick(BIGINT, INT, DOUBLE, DOUBLE, STRING, DATE, TIMESTAMP, DECIMAL)
        return self.pick(
            lambda: sql("({} {} {})", sub(kind), self.pick("=", "<>", "<", "<=", ">", ">="), sub(kind)),
            lambda: sql("({} {} {})", sub(DATE), self.pick("=", "<", ">="), sub(TIMESTAMP)),
            lambda: sql("({} and {})", sub(BOOLEAN), sub(BOOLEAN)),
            lambda: sql("({} or {})", sub(BOOLEAN), sub(BOOLEAN)),
            lambda: sql("(not {})", sub(BOOLEAN)),
            lambda: sql("({} is {}null)", sub(kind), self.pick("", "not ")),
            lambda: sql("({} is {}distinct from {})", sub(kind), self.pick("", "not "), sub(kind)),
            lambda: sql("({} {}in ({}, {}, {}))", sub(kind), self.pick("", "not "), sub(kind), sub(kind), self.literal(kind)),
            lambda: sql("({} {}between {} and {})", sub(kind), self.pick("", "not "), sub(kind), sub(kind)),
            lambda: sql("({} like '{}')", sub(STRING), self.pick("a%", "%b", "_", "%")),
        )()

    # Aggregates

    def aggregate(self, tables, depth=1):
        sub = lambda kind: self.expression(kind, tables, depth)
        any_kind = self.pick(BIGINT, INT, DOUBLE, STRING, BOOLEAN, DATE, TIMESTAMP, DECIMAL)
        ordered = self.pick(BIGINT, INT, DOUBLE, STRING, DATE, TIMESTAMP, DECIMAL)
        numeric = self.pick(BIGINT, INT, DECIMAL)
        return self.pick(
            lambda: sql("count(*)"),
            lambda: sql("count({})", sub(any_kind)),
            lambda: sql("count(distinct {})", sub(any_kind)),
            lambda: sql("{}({})", self.pick("min", "max"), sub(ordered)),
            lambda: sql("{}({})", self.pick("min", "max"), sub(DOUBLE)),
            lambda: sql("sum({})", sub(numeric)),
            lambda: sql("sum({})", self.column(DOUBLE, tables)),
            lambda: sql("avg({})", sub(self.pick(BIGINT, INT))),
            lambda: sql("{}({})", self.pick("bool_and", "bool_or"), sub(BOOLEAN)),
            lambda: sql("{}(cast({} as double))", self.pick("stddev_samp", "var_pop", "var_samp", "stddev_pop"), self.column(INT, tables)),
            lambda: sql("sum({}) filter (where {})", self.column(DECIMAL, tables), sub(BOOLEAN)),
            lambda: sql("string_agg({}, ',' order by {})", self.column(STRING, tables), sql("t.id")) if len(tables) == 1 and tables[0].name == "t"
            else sql("count(*)"),
        )()

    # Queries

    def query(self):
        shape = self.random.choice(
            [self.plain, self.plain, self.grouped, self.grouped, self.grouped, self.total, self.distinct, self.joined,
             self.joined, self.set_operation, self.membership, self.membership, self.over, self.rollup, self.grouped_join,
             self.own_rows, self.own_rows, self.one_value, self.merged])
        made = shape()
        return Query(made.ours, made.duck)

    def kinds(self, count):
        return [self.pick(BIGINT, INT, DOUBLE, STRING, BOOLEAN, DATE, TIMESTAMP, DECIMAL) for _ in range(count)]

    def where(self, tables):
        return sql("") if self.random.random() < 0.4 else sql(" where {}", self.expression(BOOLEAN, tables, 2))

    def named(self, pieces):
        return commas(sql("{} as c{}", piece, i) for i, piece in enumerate(pieces))

    def plain(self):
        t = SOURCES[:1]
        return sql("select {} from t{}", self.named(self.expression(kind, t, 3) for kind in self.kinds(2)), self.where(t))

    def keys(self, tables):
        kinds = self.kinds(self.pick(1, 1, 2))
        return [self.expression(kind, tables, self.pick(0, 0, 1)) for kind in kinds]

    def grouped(self):
        t = SOURCES[:1]
        keys = [key for key in self.keys(t) if "t." in key.ours] or [sql("t.d")]
        columns = keys + [self.aggregate(t) for _ in range(2)]
        having = sql("") if self.random.random() < 0.7 else sql(" having {} > 1", sql("count(*)"))
        return sql("select {} from t{} group by {}{}", self.named(columns), self.where(t), commas(keys), having)

    def total(self):
        t = SOURCES[:1]
        return sql("select {} from t{}", self.named(self.aggregate(t, 2) for _ in range(3)), self.where(t))

    def distinct(self):
        t = SOURCES[:1]
        return sql("select distinct {} from t{}", self.named(self.expression(kind, t, 1) for kind in self.kinds(2)), self.where(t))

    def join_condition(self):
        return self.pick(sql("t.a = u.a"), sql("t.d = u.d"), sql("t.s = u.s"), sql("t.day = u.day"), sql("t.m = u.m"),
                         sql("t.ts = u.day"), sql("t.a = u.a and t.s = u.s"), sql("t.d = u.d and t.b < u.id"))

    def joined(self):
        kind = self.pick("join", "left join", "right join", "full join")
        columns = [sql("t.id"), sql("u.id")] + [self.expression(kind, SOURCES, 2) for kind in self.kinds(1)]
        where = self.where(SOURCES) if self.random.random() < 0.3 else sql("")
        return sql("select {} from t {} u on {}{}", self.named(columns), kind, self.join_condition(), where)

    def grouped_join(self):
        keys = [self.column(self.pick(BIGINT, DOUBLE, STRING, DATE), SOURCES)]
        columns = keys + [self.aggregate(SOURCES) for _ in range(2)]
        return sql("select {} from t {} u on {} group by {}", self.named(columns), self.pick("join", "left join"),
                   self.join_condition(), commas(keys))

    def set_operation(self):
        kinds = [self.pick(BIGINT, DOUBLE, STRING, DATE, DECIMAL) for _ in range(self.pick(1, 2))]
        side = lambda table: sql("select {} from {}{}", self.named(self.column(kind, [table]) for kind in kinds), table.name,
                                 self.where([table]))
        operation = self.pick("union", "union all", "except", "except all", "intersect", "intersect all")
        return sql("{} {} {}", side(SOURCES[0]), operation, side(SOURCES[1]))

    def membership(self):
        kind = self.pick(BIGINT, DOUBLE, STRING, DATE, DECIMAL)
        t, u = SOURCES[:1], SOURCES[1:]
        test = self.pick(
            lambda: sql("{} {}in (select {} from u{})", self.expression(kind, t, 1), self.pick("", "not ", "not "),
                        self.column(kind, u), self.where(u)),
            lambda: sql("{}exists (select 1 from u where {})", self.pick("", "not "), self.join_condition()),
            lambda: sql("{} {} (select {}({}) from u{})", self.column(kind, t), self.pick("=", "<", ">"), self.pick("min", "max"),
                        self.column(kind, u), self.where(u)),
        )()
        return sql("select t.id as c0, t.s as c1 from t where {}{}", test, self.pick("", " and t.b > 0"))

    def own_rows(self):
        """A query that asks about rows of the stream that it reads itself."""
        kind = self.pick(BIGINT, DOUBLE, STRING, DATE, DECIMAL)
        t = SOURCES[:1]
        column = self.column(kind, t)
        inside = sql("select {} from t{}", column, self.where(t))
        test = self.pick(
            lambda: sql("({} {}in ({}))", column, self.pick("", "not "), inside),
            lambda: sql("({} {}in ({}))", self.expression(kind, t, 1), self.pick("", "not "), inside),
            lambda: sql("({} {}in (select {} from t v where v.b > t.b))", column, self.pick("", "not "),
                        Sql(column.ours.replace("t.", "v."), column.duck.replace("t.", "v."))),
        )()
        return self.pick(
            lambda: sql("select t.id as c0, {} as c1 from t{}", test, self.where(t)),
            lambda: sql("select t.id as c0 from t where {}{}", test, self.pick("", " or t.b > 0", " is null", " is not true")),
            lambda: sql("select t.id as c0, case when {} then 1 else 2 end as c1 from t", test),
        )()

    def one_value(self):
        """A query as a value: of no row, of one, of several."""
        kind = self.pick(BIGINT, DOUBLE, STRING, DATE, DECIMAL)
        t, u = SOURCES[:1], SOURCES[1:]
        value = sql("(select {} from u where u.id {})", self.column(kind, u), self.pick("= 0", "< 0", "= 3", "< 2", "> 0"))
        return self.pick(
            lambda: sql("select t.id as c0, {} as c1 from t", value),
            lambda: sql("select t.id as c0 from t where {} {} {}", self.column(kind, t), self.pick("=", "<", ">="), value),
            lambda: sql("select t.id as c0, coalesce({}, {}) as c1 from t", value, self.column(kind, t)),
        )()

    def merged(self):
        """The one column that `using` makes of two."""
        key = self.pick("a", "s", "day", "m")
        where = self.pick("", f" where t.{key} is not null", " where t.b > 0")
        return sql("select {} as c0, t.id as c1, u.id as c2 from t {} u using ({}){}", key, self.pick("join", "left join"), key, where)

    def over(self):
        t = SOURCES[:1]
        partition = self.column(self.pick(DOUBLE, STRING, BIGINT, DATE), t)
        order = self.column(self.pick(DOUBLE, INT, DATE, DECIMAL), t)
        function = self.pick(
            sql("rank() over (partition by {} order by {} nulls last)", partition, order),
            sql("dense_rank() over (partition by {} order by {} desc nulls last)", partition, order),
            sql("row_number() over (partition by {} order by {} nulls first, t.id)", partition, order),
            sql("sum(t.b) over (partition by {} order by t.id rows between 2 preceding and current row)", partition),
            sql("{}(t.d) over (partition by {} order by t.id rows between 2 preceding and current row)", self.pick("min", "max"), partition),
            sql("count(*) over (partition by {})", partition),
            sql("lag(t.a) over (partition by {} order by t.id)", partition),
        )
        return sql("select t.id as c0, {} as c1 from t{}", function, self.where(t))

    def rollup(self):
        t = SOURCES[:1]
        keys = commas([self.column(self.pick(DOUBLE, STRING, BIGINT), t), self.column(self.pick(BOOLEAN, DATE), t)])
        grouping = self.pick("rollup", "cube")
        return sql("select {} from t{} group by {}({})", self.named([keys_of for keys_of in split(keys)] + [self.aggregate(t)]),
                   self.where(t), grouping, keys)


def split(pieces):
    return [Sql(a, b) for a, b in zip(pieces.ours.split(", "), pieces.duck.split(", "))]
