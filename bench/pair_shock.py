"""Draws what bench/pair_shock.cpp prints, and a table of it.

Run: build/bench/pair_shock | .venv/bin/python bench/pair_shock.py docs/methods/pair-shock.svg
"""
import collections
import csv
import math
import sys

WIDTH, HEIGHT, LEFT, TOP, GAP = 330, 190, 46, 34, 56
RATE = "0.002"
COLOURS = {"as published": "#c0392b", "damping 0.01": "#2471a3", "warmup 10": "#1e8449",
           "default": "#7d3c98"}
LEAST, MOST = 1e-3, 2.0


def main(target):
    rows = list(csv.DictReader(sys.stdin))
    curves, table = collections.defaultdict(list), {}
    for row in rows:
        key = row["method"], row["remedy"], row["rate"], row["targets"]
        if row["rate"] == RATE and row["targets"] == "noisy":
            curves[key[:2]].append(float(row["shock"]))
        worst, _ = table.get(key, (0.0, 0.0))
        table[key] = max(worst, float(row["shock"])), float(row["error"])
    print("| method | remedy | learning rate | targets | max ‖dA‖/‖A‖ | ‖W − W*‖/‖ΔW*‖ after 3 rounds |")
    print("|---|---|---|---|---|---|")
    for (method, remedy, rate, targets), (worst, error) in table.items():
        print(f"| {method} | {remedy} | {rate} | {targets} | {worst:.3f} | {error:.3f} |")
    with open(target, "w", encoding="utf-8") as file:
        file.write(svg(curves))


def svg(curves):
    total = 2 * (WIDTH + LEFT) + 20
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{HEIGHT + TOP + GAP}"'
             ' font-family="sans-serif" font-size="11">', '<rect width="100%" height="100%" fill="#fff"/>']
    for i, method in enumerate(("lora-pro", "lora-rite")):
        parts += panel(method, LEFT + i * (WIDTH + LEFT), curves)
    for i, (name, colour) in enumerate(COLOURS.items()):
        x, y = LEFT + i * 150, HEIGHT + TOP + GAP - 12
        parts.append(f'<path d="M{x} {y - 4}h22" stroke="{colour}" stroke-width="2"/>'
                     f'<text x="{x + 28}" y="{y}">{name}</text>')
    return "\n".join(parts) + "\n</svg>\n"


def panel(method, left, curves):
    def height(value):
        share = math.log(max(value, LEAST) / LEAST) / math.log(MOST / LEAST)
        return TOP + HEIGHT * (1 - share)

    label = "LoRA-Pro, full mode" if method == "lora-pro" else "LoRA-RITE"
    parts = [f'<text x="{left}" y="20">{label}: ‖dA‖/‖A‖ by step, three rounds from B = 0</text>',
             f'<rect x="{left}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#999"/>']
    for value in (1e-3, 1e-2, 1e-1, 1.0):
        y = height(value)
        parts.append(f'<path d="M{left} {y:.1f}h{WIDTH}" stroke="#ddd"/>'
                     f'<text x="{left - 4}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for name, colour in COLOURS.items():
        values = curves[method, name]
        step = WIDTH / len(values)
        points = " ".join(f"{left + (j + 0.5) * step:.1f},{height(v):.1f}"
                          for j, v in enumerate(values))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
    for r in range(3):
        x = left + r * WIDTH / 3
        parts.append(f'<text x="{x + 4:.1f}" y="{TOP + HEIGHT + 16}">round {r + 1}</text>')
        if r:
            parts.append(f'<path d="M{x:.1f} {TOP}v{HEIGHT}" stroke="#bbb" stroke-dasharray="3 3"/>')
    return parts


main(sys.argv[1])
