"""Draws the loss and the accuracies of a run as an SVG: python plot_curves.py --run DIR --out docs/demo-model.svg."""

import argparse
import json
import pathlib

WIDTH, HEIGHT, LEFT, TOP, PANEL = 860, 620, 60, 40, 230
COLOURS = ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#606770",
           "#1b6e5a", "#b5179e"]


def read(run):
    """(losses, validations) over million tokens, without what a resumed run did over again."""
    entries, first = [], float("inf")
    for entry in map(json.loads, reversed((run / "log.jsonl").read_text().splitlines())):
        if entry["step"] <= first:
            first = entry["step"]
            entries.insert(0, entry)
    losses = [(entry["tokens"] / 1e6, entry["loss"]) for entry in entries if "loss" in entry]
    valid = [(entry["tokens"] / 1e6, entry["valid"], entry["draft"]) for entry in entries if "valid" in entry]
    return losses, valid


class Panel:
    """A box with axes; x in million tokens, y from low to high."""

    def __init__(self, top, most_x, low, high, title, ticks):
        self.top, self.most_x, self.low, self.high = top, most_x, low, high
        right, bottom = WIDTH - 170, top + PANEL
        self.parts = [f'<text x="{LEFT}" y="{top - 8}" font-weight="bold">{title}</text>',
                      f'<path d="M{LEFT} {top}V{bottom}H{right}" fill="none" stroke="#333"/>']
        for tick in ticks:
            y = self.y(tick)
            self.parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#ddd"/>'
                              f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
        for million in range(0, int(most_x) + 1):
            x = self.x(million)
            self.parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{million}</text>')
        self.parts.append(f'<text x="{right}" y="{bottom + 32}" text-anchor="end">million tokens</text>')

    def x(self, value):
        return LEFT + (WIDTH - 170 - LEFT) * value / self.most_x

    def y(self, value):
        return self.top + PANEL * (1 - (min(value, self.high) - self.low) / (self.high - self.low))

    def line(self, points, colour, dashed=False):
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        style = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{style}/>')


def smoothed(points, width=9):
    found = []
    for index, (x, _) in enumerate(points):
        near = [y for _, y in points[max(0, index - width):index + 1]]
        found.append((x, sum(near) / len(near)))
    return found


def draw(losses, valid):
    most = max(x for x, _ in losses)
    loss = Panel(TOP, most, 0, 2, "training loss, answers alone", [0, 0.5, 1, 1.5, 2])
    loss.line(smoothed(losses), COLOURS[0])
    score = Panel(TOP + PANEL + 70, most, 0, 100, "validation, % of questions right (averaged weights)",
                  [0, 20, 40, 60, 80, 100])
    legend = []
    for index, task in enumerate(valid[0][1]):
        colour, y = COLOURS[index % len(COLOURS)], score.top + 8 + 17 * index
        score.line([(x, 100 * right[task]) for x, right, _ in valid], colour)
        legend.append(f'<path d="M{WIDTH - 150} {y}h18" stroke="{colour}" stroke-width="3"/>'
                      f'<text x="{WIDTH - 126}" y="{y + 4}">{task}</text>')
    drafts = [(x, 100 * sum(values.values()) / len(values)) for x, _, values in valid]
    score.line(drafts, "#000", dashed=True)
    y = score.top + 8 + 17 * len(valid[0][1])
    legend.append(f'<path d="M{WIDTH - 150} {y}h18" stroke="#000" stroke-width="2" stroke-dasharray="5 4"/>'
                  f'<text x="{WIDTH - 126}" y="{y + 4}">first MTP draft</text>')
    parts = loss.parts + score.parts + legend
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
            f'font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    args.out.write_text(draw(*read(args.run)))


if __name__ == "__main__":
    main()
