"""Random queries over one batch, on Tidemill and on DuckDB; their answers have to be the same.

    differential.py TIDEMILL [--seed N] [--queries N] [--keep DIR]

Each query is made from typed expressions, so that both engines take it, and asks about nulls, NaN, zeros of both signs,
extremes, far dates and empty inputs. Where DuckDB fails (an overflow), Tidemill has to fail; where it answers, Tidemill has
to give the same rows. Deviations that are meant are in `deviations.py`, each with its reason.

Exit code 0: all the same. 1: the queries that differ are printed, each with what gives it again.
"""

import argparse
import datetime
import decimal
import json
import math
import pathlib
import random
import subprocess
import sys
import tempfile

import duckdb

import deviations
from generate import SOURCES, Generator, rows_of


def number(value):
    """A value that compares across the two engines: what is equal in SQL is equal here."""
    if value is None:
        return None
    if isinstance(value, bool):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return value + 0.0
    return value


def plain(value):
    """A value of DuckDB's as Tidemill's JSON has it."""
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    return number(value)


def same(left, right):
    """Whether Tidemill's value is DuckDB's. Numbers may differ in kind (decimal, double, integer) and in rounding."""
    if left is None or right is None:
        return left is None and right is None
    if isinstance(left, list) or isinstance(right, list):
        return isinstance(left, list) and isinstance(right, list) and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, str) and isinstance(right, str) and left == right:
        return True
    a, b = as_number(left), as_number(right)
    if a is not None and b is not None:
        if math.isnan(a) or math.isnan(b):
            return math.isnan(a) and math.isnan(b)
        if isinstance(a, int) and isinstance(b, int):
            return a == b
        # The sum of large numbers of both signs depends on the order in which they are added.
        return a == b or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)
    if isinstance(left, str) and isinstance(right, str):
        return instant(left) is not None and instant(left) == instant(right)
    return False


def as_number(value):
    if isinstance(value, (int, float)):
        return value
    if value in ("NaN", "Infinity", "-Infinity"):
        return float(value.replace("Infinity", "inf"))
    try:
        exact = decimal.Decimal(value)
    except decimal.InvalidOperation:
        return None
    return int(exact) if exact == exact.to_integral_value() else float(exact)


def instant(text):
    """A date or time as numbers; a date is its midnight."""
    try:
        return datetime.datetime.fromisoformat(text.replace("Z", "")).replace(tzinfo=None)
    except ValueError:
        return None


def sort_key(row):
    def key(value):
        if value is None:
            return (0, "")
        if isinstance(value, list):
            return (4, json.dumps([key(item) for item in value]))
        if isinstance(value, bool):
            return (1, str(value))
        as_float = as_number(value)
        if as_float is not None:
            # Rounded, so that what is nearly equal is sorted alike.
            return (2, "NaN" if math.isnan(as_float) else f"{float(as_float):+.6e}")
        at = instant(value)
        return (3, at.isoformat() if at else value)

    return [key(value) for value in row]


def equal_rows(left, right):
    """Rows compared as multisets."""
    if len(left) != len(right):
        return False
    left, right = sorted(left, key=sort_key), sorted(right, key=sort_key)
    if all(len(a) == len(b) and all(map(same, a, b)) for a, b in zip(left, right)):
        return True
    # Sorting by rounded numbers may pair rows wrongly; look for a partner of each.
    rest = list(right)
    for row in left:
        partner = next((i for i, other in enumerate(rest) if len(row) == len(other) and all(map(same, row, other))), None)
        if partner is None:
            return False
        rest.pop(partner)
    return True


class Tidemill:
    def __init__(self, program, folder, data):
        self.program, self.folder = program, folder
        (folder / "input.json").write_text(json.dumps({"sources": {name: [lines] for name, lines in data.items()}}))

    def definition(self, queries):
        sources = "\n".join(
            f'[source.{name}]\nconnector = "queue"\nbatches = [["0"]]\nformat = "csv"\nnull = "\\\\N"\ncolumns = {{ {columns} }}\n'
            for name, columns in ((s.name, s.toml_columns()) for s in SOURCES)
        )
        streams = "\n".join(
            f"[stream.q{i}]\nfrom = {json.dumps([s.name for s in SOURCES])}\nsql = '''{query.tidemill}'''\n\n"
            f'[[output]]\nfrom = "q{i}"\nprint = true\n'
            for i, query in queries
        )
        return f'name = "differential"\nbatch_interval = "1s"\n\n{sources}\n{streams}'

    def ask(self, queries):
        """The rows of each query by its number, or the error of the whole job."""
        job = self.folder / "job.toml"
        job.write_text(self.definition(queries))
        command = [self.program, "replay", job, "--input", self.folder / "input.json", "--batches", "1"]
        run = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if run.returncode < 0 or run.returncode > 100 or "panicked" in run.stderr:
            return None, f"crash, exit code {run.returncode}: {run.stderr[-2000:]}"
        if run.returncode != 0:
            return None, run.stderr.strip()
        answers = {}
        for line in run.stdout.splitlines():
            # Several columns may have one value; their names differ.
            answer = json.loads(line)
            answers[int(answer["output"][1:])] = [list(row.values()) for row in answer["rows"]]
        return answers, None

    def ask_each(self, queries):
        """Asks all together; if that fails, halves the queries until those that fail stand alone."""
        answers, error = self.ask(queries)
        if answers is not None:
            return {i: (answers.get(i, []), None) for i, _ in queries}
        if len(queries) == 1 or error.startswith("crash"):
            if len(queries) == 1:
                return {queries[0][0]: (None, error)}
        half = len(queries) // 2
        return {**self.ask_each(queries[:half]), **self.ask_each(queries[half:])}


class Duck:
    def __init__(self, data):
        self.connection = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'; SET ieee_floating_point_ops = true")
        for source in SOURCES:
            self.connection.execute(f"create table {source.name} ({source.duck_columns()})")
            rows = rows_of(source, data[source.name])
            if rows:
                marks = ", ".join("?" for _ in source.columns)
                casts = f"insert into {source.name} values ({marks})"
                self.connection.executemany(casts, rows)

    def ask(self, query):
        try:
            rows = self.connection.execute(query.duck).fetchall()
        except duckdb.Error as error:
            return None, str(error)
        return [[plain(value) for value in row] for row in rows], None


def compare(query, ours, theirs):
    """None if the answers agree or differ as they should, otherwise what is wrong."""
    (our_rows, our_error), (their_rows, their_error) = ours, theirs
    if our_error and our_error.startswith("crash"):
        return our_error
    if our_error and their_error:
        return None
    if deviations.meant(query, ours, theirs):
        return None
    if their_error:
        return f"DuckDB fails ({their_error.splitlines()[0]}), Tidemill gives {our_rows[:5]}"
    if our_error:
        return f"Tidemill fails: {our_error[:600]}"
    if equal_rows(our_rows, their_rows):
        return None
    only_ours = [row for row in our_rows if not any(len(row) == len(o) and all(map(same, row, o)) for o in their_rows)]
    only_theirs = [row for row in their_rows if not any(len(row) == len(o) and all(map(same, o, row)) for o in our_rows)]
    return f"{len(our_rows)} and {len(their_rows)} rows; only Tidemill: {only_ours[:3]}; only DuckDB: {only_theirs[:3]}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tidemill", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--together", type=int, default=20, help="queries per job")
    arguments = parser.parse_args()
    wrong = total = failing = 0
    rounds = -(-arguments.queries // arguments.together)
    for index in range(rounds):
        seed = arguments.seed * 1_000_003 + index
        generator = Generator(random.Random(seed))
        data = {source.name: generator.lines(source) for source in SOURCES}
        queries = list(enumerate(generator.query() for _ in range(arguments.together)))
        duck = Duck(data)
        theirs = {i: duck.ask(query) for i, query in queries}
        # Those that fail would end a job for all; they are asked one by one.
        together = [(i, query) for i, query in queries if theirs[i][1] is None]
        alone = [(i, query) for i, query in queries if theirs[i][1] is not None]
        with tempfile.TemporaryDirectory() as folder:
            tidemill = Tidemill(arguments.tidemill, pathlib.Path(folder), data)
            ours = tidemill.ask_each(together) if together else {}
            for one in alone:
                ours.update(tidemill.ask_each([one]))
            for i, query in queries:
                total += 1
                failing += theirs[i][1] is not None
                difference = compare(query, ours[i], theirs[i])
                if difference:
                    wrong += 1
                    print(f"--- seed {arguments.seed}, job {index}, query {i}\n{query.tidemill}\n  {difference}", flush=True)
    print(f"{total} queries, {failing} of them fail as they should, {wrong} differ (seed {arguments.seed})")
    if failing == total or total == 0:
        sys.exit("nothing was compared")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
