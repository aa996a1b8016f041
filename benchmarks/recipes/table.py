"""The results of the study: a table in Markdown, and a plot of the scores against the steps.

python -m benchmarks.recipes.table OUTPUT [--plot recipes.svg]
"""

import argparse
import collections
import pathlib
import statistics

from benchmarks.recipes.study import SCORES_FILENAME, read_scores

BASELINE = "faithful"


def main(argv=None):
    """Print a table for each data set; write the plot."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output", type=pathlib.Path, help="the study's folder")
    parser.add_argument("--plot", type=pathlib.Path, help="file of the plot: .svg or .png")
    args = parser.parse_args(argv)
    curves = summarize(read_scores(args.output))
    if not curves:
        parser.error(f"{args.output / SCORES_FILENAME} has no scores: name the study's --output")
    for data, of_data in curves.items():
        print(f"\n{data}\n")
        print("\n".join(format_rows(of_data)))
    if args.plot is not None:
        plot(curves, args.plot)


def summarize(lines):
    """Gather the scores of seeds and splits.

    Returns
    -------
    dict
        ``curves[data][configuration, precise, steps][step]`` is a list of (rank-1, mAP), where
        ``steps`` is the length of the training, and ``precise`` the number of batches that batch
        norm was set anew from.
    """
    curves = collections.defaultdict(lambda: collections.defaultdict(dict))
    for line in lines:
        of_steps = curves[line["data"]][line["configuration"], line["precise"], line["steps"]]
        of_steps.setdefault(line["step"], []).append((line["rank1"], line["mAP"]))
    return curves


def format_rows(curves):
    """Return the lines of a table: mean and spread at the end, steps to the baseline's end."""
    of_baseline = [steps for (name, precise, _), steps in curves.items()
                   if name == BASELINE and not precise]  # fmt: skip
    goal = None
    if of_baseline:
        longest = max(of_baseline, key=max)
        goal = statistics.mean(score for score, _ in longest[max(longest)])
    yield "| recipe | runs | steps | rank-1 | mAP | first step as good as faithful's last |"
    yield "|---|---|---|---|---|---|"
    for (name, precise, _), steps in curves.items():
        last = max(steps)
        title = f"{name}, batch norm set anew" if precise else name
        rank1, mean_precision = (
            format_spread([scores[index] for scores in steps[last]]) for index in (0, 1)
        )
        as_good = [
            step
            for step, scores in sorted(steps.items())
            if goal is not None and statistics.mean(score for score, _ in scores) >= goal
        ]
        first = str(as_good[0]) if as_good else "-"
        yield f"| {title} | {len(steps[last])} | {last} | {rank1} | {mean_precision} | {first} |"


def format_spread(values):
    """Return mean and standard deviation, as the table has them."""
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def plot(curves, path):
    """Draw rank-1 against the steps, a panel for each data set."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.fonttype"] = "none"  # texts stay texts, which takes less space
    figure = Figure(figsize=(6 * len(curves), 4), layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    looks, lines = {}, {}  # of each curve, the same in all panels
    for panel, (data, of_data) in zip(panels, curves.items(), strict=True):
        for (name, precise, last), steps in of_data.items():
            if not precise:
                label = f"{name}, {last} steps"
                look = looks.setdefault(
                    label, {"color": f"C{len(looks)}", "marker": "os^Dv"[len(looks) % 5]}
                )
                numbers = sorted(steps)
                means = [statistics.mean(score for score, _ in steps[step]) for step in numbers]
                (lines[label],) = panel.plot(numbers, means, markerfacecolor="none", **look)
        panel.set(title=data, xlabel="steps", ylabel="rank-1 (mean)", ylim=(0, 1.05))
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=2)
    figure.savefig(path)


if __name__ == "__main__":
    main()
