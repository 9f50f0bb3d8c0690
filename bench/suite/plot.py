"""`python plot.py RESULT.json OUT.svg`: answers a second and CPU a call against lean, 64 at a time. Runs on its own."""

from __future__ import annotations

import json
import statistics
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt


def main(source: str, target: str) -> None:
    with open(source) as file:
        rows = [row for row in json.load(file)["rows"] if row["concurrency"] == 64]
    works = [work for work in ("identity", "regression") if any(row["work"] == work for row in rows)]
    figure, axes = plt.subplots(len(works), 2, figsize=(11, 3.2 * len(works)), squeeze=False)
    for line, work in zip(axes, works, strict=True):
        for axis, key, title in zip(line, ("rate", "cpu"), ("answers/s", "CPU a call"), strict=True):
            draw(axis, [row for row in rows if row["work"] == work], key, f"{work}, 64 at a time: {title} against lean")
    figure.tight_layout()
    plt.savefig(target, metadata={"Date": None})


def draw(axis, rows, key: str, title: str) -> None:  # type: ignore[no-untyped-def]
    names = list(dict.fromkeys(row["server"] for row in rows))
    values = {name: statistics.median(row[key] for row in rows if row["server"] == name) for name in names}
    lean = values["lean"]
    axis.barh(
        names,
        [values[name] / lean for name in names],
        color=["#c33" if name.startswith("ours") else "#678" for name in names],
    )
    axis.set_xscale("log")
    axis.set_title(title, fontsize=9)
    axis.invert_yaxis()
    for index, name in enumerate(names):
        axis.text(values[name] / lean, index, f" {values[name] / lean:.2f}", va="center", fontsize=8)


if __name__ == "__main__":
    main(*sys.argv[1:])
