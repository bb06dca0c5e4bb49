#!/usr/bin/env python3
"""Draws what `causewayd plan --search --format csv` printed: generated tokens per second of a device against those of a
user, a point for each strategy and concurrency, coloured by strategy, the Pareto front as a line. Needs matplotlib
(`pip install matplotlib`).

    causewayd plan --model DIR --devices 8xH100-80GB --search --concurrency 1,4,16,64,256 --format csv > search.csv
    scripts/plot_search.py search.csv search.svg
"""

import argparse
import csv
import sys

STYLES = ["o", "s", "^", "D", "v", "P", "X", "*", "<", ">"]


def name(row):
    factors = [f"{factor} {row[factor.lower()]}" for factor in ("DP", "PP", "TP") if row[factor.lower()] != "1"]
    return (" x ".join(factors) or "one device") + (", offload" if row["offload"] == "1" else "")


def read(file):
    """Ranked rows, by strategy; of each strategy and concurrency the number of micro-batches that serves most. And
    those of the front."""
    strategies, best, front = {}, {}, []
    with open(file, newline="") as lines:
        reader = csv.DictReader(lines)
        needed = {"rank", "concurrency", "tokens_per_second_user", "tokens_per_second_device", "pareto", "servable"}
        missing = needed - set(reader.fieldnames or [])
        if missing:
            sys.exit(f"{file}: not what causewayd plan --search --format csv prints: it has no column "
                     f"{', '.join(sorted(missing))}")
        for row in reader:
            if not row["rank"]:
                continue
            row["x"], row["y"] = float(row["tokens_per_second_user"]), float(row["tokens_per_second_device"])
            if row["pareto"] == "1":
                front.append(row)
            key = (name(row), row["concurrency"])
            if key not in best or row["y"] > best[key]["y"]:
                best[key] = row
    for (strategy, _), row in best.items():
        strategies.setdefault(strategy, []).append(row)
    return strategies, sorted(front, key=lambda row: row["x"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", help="what --format csv printed")
    parser.add_argument("out", help="the picture; its ending says which kind (.svg, .png)")
    parser.add_argument("--title", default="")
    arguments = parser.parse_args()
    strategies, front = read(arguments.csv)
    if not strategies:
        sys.exit(f"{arguments.csv}: no strategy fits")
    try:
        import matplotlib
    except ImportError:
        sys.exit("matplotlib is missing: pip install matplotlib")
    matplotlib.use("Agg")
    # The same file for the same figures; text as text.
    matplotlib.rcParams.update({"svg.hashsalt": "causeway", "svg.fonttype": "none"})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    colors = pyplot.get_cmap("tab20")
    order = sorted(strategies, key=lambda strategy: -max(row["y"] for row in strategies[strategy]))
    for i, strategy in enumerate(order):
        rows = sorted(strategies[strategy], key=lambda row: row["x"])
        served = any(row["servable"] == "1" for row in rows)
        axes.plot([row["x"] for row in rows], [row["y"] for row in rows], STYLES[i % len(STYLES)],
                  color=colors((2 * i + i // 10) % 20), markersize=6, linestyle="-", linewidth=0.6, alpha=0.9,
                  label=strategy + (" (servable)" if served else ""))
    axes.plot([row["x"] for row in front], [row["y"] for row in front], color="black", linewidth=7, alpha=0.15,
              solid_capstyle="round", zorder=0, label="Pareto front")
    for row in front:
        axes.annotate(row["concurrency"], (row["x"], row["y"]), textcoords="offset points", xytext=(5, 5), fontsize=7,
                      color="dimgray")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("tokens per second of a user")
    axes.set_ylabel("tokens per second of a device")
    axes.set_title(arguments.title, fontsize=10)
    axes.grid(True, which="both", linewidth=0.3, alpha=0.5)
    figure.legend(fontsize=7, loc="outside right upper", frameon=False, title="numbers: requests at once",
                  title_fontsize=7)
    figure.savefig(arguments.out, metadata={"Date": None} if arguments.out.endswith(".svg") else None)


if __name__ == "__main__":
    main()
