"""R@1 over the nights of one or several runs of nights.py, as an SVG and one CSV of all.

    python plot.py --out nights.svg --csv nights.csv "a fifth wrong=RUN/nights.csv" "all right=OTHER/nights.csv"
"""
import argparse
import csv

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 380, 56, 190, 24, 44
COLOURS = ["#b3541e", "#1f5f8b", "#4d7c2a", "#7a4d8b"]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", required=True)
    ap.add_argument("--csv", required=True)
    ap.add_argument("runs", nargs="+", help="NAME=FILE")
    args = ap.parse_args()
    runs = {}
    for run in args.runs:
        name, path = run.split("=", 1)
        runs[name] = list(csv.DictReader(open(path)))
    columns = ["night", "verdicts", "right", "passed", "site R@1", "site mAP", "reference R@1", "reference mAP"]
    with open(args.csv, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["run"] + columns)
        for name, rows in runs.items():
            writer.writerows([name] + [row[column][:8] for column in columns] for row in rows)
    figures = [float(row[column]) for rows in runs.values() for row in rows for column in ("site R@1", "reference R@1")]
    low, high = 5 * (min(figures) // 5), 5 * (max(figures) // 5 + 1)
    nights = max(int(row["night"]) for rows in runs.values() for row in rows)
    x = lambda night: LEFT + (WIDTH - LEFT - RIGHT) * night / nights
    y = lambda figure: TOP + (HEIGHT - TOP - BOTTOM) * (high - figure) / (high - low)
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">' % (WIDTH, HEIGHT),
             '<rect width="100%" height="100%" fill="#ffffff"/>']
    for figure in range(int(low), int(high) + 1, 5):
        parts.append('<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#dddddd"/>' % (LEFT, WIDTH - RIGHT, y(figure), y(figure)))
        parts.append('<text x="%d" y="%.1f" text-anchor="end" fill="#333333">%d</text>' % (LEFT - 8, y(figure) + 4, figure))
    for night in range(0, nights + 1, 5):
        parts.append('<text x="%.1f" y="%d" text-anchor="middle" fill="#333333">%d</text>' % (x(night), HEIGHT - BOTTOM + 20, night))
    parts.append('<text x="%.1f" y="%d" text-anchor="middle" fill="#333333">nights of verdicts</text>' % (x(nights / 2), HEIGHT - 6))
    parts.append('<text x="%d" y="14" fill="#333333">R@1 in % %</text>'.replace("% %", "%%") % (LEFT - 40))
    for (name, rows), colour in zip(runs.items(), COLOURS):
        for column, dash in (("site R@1", ""), ("reference R@1", ' stroke-dasharray="5 4"')):
            steps, last = [], None
            for row in rows:
                at = x(int(row["night"]))
                if last is not None:
                    steps.append("%.1f,%.1f" % (at, last))
                last = y(float(row[column]))
                steps.append("%.1f,%.1f" % (at, last))
            parts.append('<polyline fill="none" stroke="%s" stroke-width="2"%s points="%s"/>' % (colour, dash, " ".join(steps)))
        for row in rows:
            if row["passed"] == "False":
                parts.append('<circle cx="%.1f" cy="%.1f" r="3.5" fill="#ffffff" stroke="%s"/>' % (x(int(row["night"])), y(float(row["site R@1"])), colour))
    legend = [("%s: site" % name, colour, "") for name, colour in zip(runs, COLOURS)]
    legend += [("%s: reference" % name, colour, ' stroke-dasharray="5 4"') for name, colour in zip(runs, COLOURS)]
    for at, (text, colour, dash) in enumerate(legend):
        line = TOP + 14 + 22 * at
        parts.append('<line x1="%d" x2="%d" y1="%d" y2="%d" stroke="%s" stroke-width="2"%s/>' % (WIDTH - RIGHT + 10, WIDTH - RIGHT + 34, line, line, colour, dash))
        parts.append('<text x="%d" y="%d" fill="#333333">%s</text>' % (WIDTH - RIGHT + 40, line + 4, text))
    line = TOP + 14 + 22 * len(legend)
    parts.append('<circle cx="%d" cy="%d" r="3.5" fill="#ffffff" stroke="#333333"/><text x="%d" y="%d" fill="#333333">candidate refused</text>' % (WIDTH - RIGHT + 22, line, WIDTH - RIGHT + 40, line + 4))
    parts.append("</svg>\n")
    with open(args.out, "w") as file:
        file.write("\n".join(parts))


if __name__ == "__main__":
    main()
