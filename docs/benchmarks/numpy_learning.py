#!/usr/bin/env python3
"""What `tidemill bench learn` does, as a plain numpy loop in one process: numpy_learning.py [ROWS] (needs numpy).

Parses rows of 100 features from text, predicts each batch with the weights so far, counts the errors, and takes one
gradient step. Prints rows per second, from text and from arrays. Nothing is received, held twice or kept.
"""
import io
import sys
import time

import numpy as np

FEATURES, DIFFERENT, BATCH, STEP = 100, 10_000, 50_000, 0.01


def text_of_rows(random):
    w, b = random.standard_normal(FEATURES), random.standard_normal() * 10
    x = random.standard_normal((DIFFERENT, FEATURES))
    y = x @ w + b
    return "".join(f"{l!r}\t{','.join(map(repr, row))}\n" for l, row in zip(y.tolist(), x.tolist()))


def parse(text):
    numbers = np.loadtxt(io.StringIO(text.replace("\t", ",")), delimiter=",")
    return numbers[:, 1:], numbers[:, 0]


class Line:
    def __init__(self):
        self.w, self.t, self.squares, self.rows = np.zeros(FEATURES), 0, 0.0, 0

    def batch(self, x, y):
        errors = x @ self.w - y
        self.squares, self.rows, self.t = self.squares + errors @ errors, self.rows + len(y), self.t + 1
        self.w -= STEP * (x.T @ errors) / len(y)


def main():
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    text = text_of_rows(np.random.default_rng(1)) * (BATCH // DIFFERENT)
    for what, source in (("from text", lambda: parse(text)), ("from arrays", lambda at=parse(text): at)):
        line, start = Line(), time.perf_counter()
        while line.rows < rows:
            line.batch(*source())
        seconds = time.perf_counter() - start
        print(f"numpy {what}: {line.rows} rows, {line.rows / seconds:,.0f} rows/s, MSE {line.squares / line.rows:.3f}")


main()
