"""Trains one model with `mor` and with PyTorch in turns, and prints tokens per second, memory and their ratios.

    python benches/pytorch/compare.py path/to/mor
"""

import json
import pathlib
import statistics
import subprocess
import sys

ROUNDS, DEPTHS = 3, (1, 4)
HERE = pathlib.Path(__file__).parent


def measure(command):
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print("| depth | mor, tokens/s | PyTorch, tokens/s | ratio | mor, peak MB | PyTorch, peak MB | ratio |")
    print("|---|---|---|---|---|---|---|")
    for depth in DEPTHS:
        ours, theirs = [], []
        size = ["--depth", str(depth), "--batch", "16", "--seq", "127", "--steps", "4"]
        for _ in range(ROUNDS):
            mor = [sys.argv[1], "bench", "train", "--preset", "technical-card", *size, "--json"]
            ours.append(measure(mor))
            theirs.append(measure([sys.executable, str(HERE / "technical.py"), *size]))
        if ours[0]["parameters"] != theirs[0]["parameters"]:
            sys.exit(f"not the same model: {ours[0]['parameters']} and {theirs[0]['parameters']} parameters")
        speed = [statistics.median(run["tokens_per_second"] for run in runs) for runs in (ours, theirs)]
        peak = [max(run["peak_bytes"] for run in runs) / 1e6 for runs in (ours, theirs)]
        print(
            f"| {depth} | {speed[0]:.0f} | {speed[1]:.0f} | {speed[0] / speed[1]:.2f} "
            f"| {peak[0]:.0f} | {peak[1]:.0f} | {peak[0] / peak[1]:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
