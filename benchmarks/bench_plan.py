"""How long a plan takes when nothing has changed, however large the input is.

    python -m benchmarks.bench_plan [--gigabytes 10] [--files 40]

Makes sparse JSONL files in a temporary folder, plans a run over them in a process of its own until
their digests are cached, and then measures the same plan again. Exits with 1 above the target.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MAX_SECONDS = 2.0
MIB = 1 << 20
RECIPE = """
name: plan
storage: data
sources:
  - {{name: dump, kind: documents, paths: ["{folder}/*.jsonl"]}}
"""
PLAN = """
import sys, time
from flows.planner import plan_pipeline
from flows.recipe_loader import load_recipe
recipe = load_recipe(sys.argv[1], (), None)
start = time.monotonic()
steps = plan_pipeline(recipe, "acquire").steps
print(time.monotonic() - start, steps[0].folder)
"""


def main() -> int:
    """Run the benchmark; 1 if an unchanged plan takes too long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--files", type=int, default=40)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-plan-") as name:
        folder = Path(name)
        mebibytes = int(options.gigabytes * 1000**3 / MIB / options.files)
        for number in range(options.files):
            _write_sparse(folder / f"{number:03d}.jsonl", number, mebibytes)
        time.sleep(2.1)  # a file that was just changed is not cached
        recipe = folder / "recipe.yaml"
        recipe.write_text(RECIPE.format(folder=folder))
        first, planned = _plan(recipe)
        again, same = _plan(recipe)
        if planned != same:
            raise RuntimeError(f"the second plan differs: {planned}, {same}")
        total = sum(path.stat().st_size for path in folder.glob("*.jsonl")) / 1000**3
        print(f"plan over {total:.1f} GB in {options.files} files: first {first:.2f} s")
        print(f"nothing changed: {again:.3f} s (target: below {MAX_SECONDS} s)")
    return 0 if again < MAX_SECONDS else 1


def _write_sparse(path: Path, number: int, mebibytes: int) -> None:
    """A line per mebibyte; what is between them takes no room on the disk."""
    with path.open("wb") as file:
        for line in range(mebibytes):
            file.seek(line * MIB)
            file.write(json.dumps({"text": f"document {number}-{line}"}).encode() + b"\n")
        file.truncate(mebibytes * MIB)


def _plan(recipe: Path) -> tuple[float, str]:
    environment = {**os.environ, "GRISTMILL_CACHE": str(recipe.parent / "cache")}
    result = subprocess.run(
        [sys.executable, "-c", PLAN, str(recipe)],
        env=environment,
        cwd=recipe.parent,
        check=True,
        capture_output=True,
        text=True,
    )
    seconds, folder = result.stdout.split()[-2:]
    return float(seconds), folder


if __name__ == "__main__":
    sys.exit(main())
