"""How long a report of very many trials takes to write and to open.

    python benchmarks/report_10000.py [--trials 10000] [--repetitions 3] [--output FILE.json]

Makes a run folder with `simulated_runs`, runs `lora-sweep report` on it in a process of its own and opens the page in a
headless Chromium where there is one. Prints seconds, peak memory and the page's size, and writes them as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from chromium import Chromium, find_chromium  # noqa: E402  the path must be there before
from simulated_runs import write_run  # noqa: E402

ROOT = Path(__file__).parents[1]
COMMAND = "import sys; from lora_sweep.cli import main; sys.exit(main())"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "report_10000.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder) / "run", arguments.trials, arguments.seed)
        seconds = [_report(run.path) for _ in range(arguments.repetitions)]
        page = run.path / "report.html"
        measured: dict[str, Any] = {
            "trials": arguments.trials,
            "seed": arguments.seed,
            "report_seconds": seconds,
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
            "page_bytes": page.stat().st_size,
            "opened": _open(page, arguments.repetitions) if find_chromium() else None,
            "machine": {"processor": _processor(), "cores": os.cpu_count(), "python": platform.python_version()},
            "load_average": os.getloadavg()[0],
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    arguments.output.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    _say(measured)


def _report(run: Path) -> float:
    """Seconds of one `lora-sweep report`, from starting Python to its end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", COMMAND, "report", str(run)], check=True, env=environment, stdout=2)
    return time.perf_counter() - start


def _open(page: Path, repetitions: int) -> dict[str, list[float]]:
    """Seconds from navigating until the document is read, and until the first figure stands when one goes there.

    Every repetition starts a browser with a fresh profile, so that nothing is cached.
    """
    read, figure = [], []
    for _ in range(repetitions):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, Chromium(Path(folder)) as browser:
            browser.open(page)
            read.append(browser.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"))
            figure.append(browser.evaluate(_FIRST_FIGURE))
            assert not browser.messages, browser.messages
    return {"read_seconds": [one / 1000 for one in read], "first_figure_seconds": [one / 1000 for one in figure]}


_FIRST_FIGURE = """new Promise((done) => {
  document.querySelector("[data-figure]").scrollIntoView({ behavior: "instant" });
  const look = () => document.querySelector(".main-svg") ? done(performance.now()) : requestAnimationFrame(look);
  look();
})"""


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _say(measured: dict[str, Any]) -> None:
    print(f"{measured['trials']:,} trials: report in {statistics.median(measured['report_seconds']):.1f} s (median),")
    print(f"  {measured['peak_memory_bytes'] / 1e6:.0f} MB at the peak, page of {measured['page_bytes'] / 1e6:.1f} MB")
    for name, seconds in (measured["opened"] or {}).items():
        print(f"  {name}: {', '.join(f'{one:.2f}' for one in seconds)}")


if __name__ == "__main__":
    main()
