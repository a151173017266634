"""python -m tools.gpu_check: runs the parts, tells what holds, writes the page. See --help."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tools.gpu_check.report import Report, read_report, said
from tools.gpu_check.settings import ROOT, Settings, environment, read_settings

Part = Callable[[Settings, Report], None]
PLAN: tuple[tuple[str, ...], ...] = (
    ("prepare", "prepare-speed"),
    ("chain-device", "chain-cpu", "chain-cpu-again", "more-models", "conformance"),
    ("end-to-end", "same-models", "same-tokens", "gradients", "one-epoch", "resume", "encoders"),
    ("speed-device",),
    ("kmeans",),
    ("speed-cpu",),
)
"""Parts that run side by side, in the order of the rows; where speed is measured, nothing else runs."""
MEASURING = ("speed-device", "kmeans", "speed-cpu")
"""Parts that are left out where too little time is left; all others fail then."""
LEAST = 20.0
"""Seconds that must be left for a part that measures."""
GRACE = 45.0
"""Seconds after the end of measurements at which a part is stopped, which is a failure."""
SHOWN = 4000
"""Characters of the output of a part with failures."""


def parts(settings: Settings) -> dict[str, Part]:
    """Name -> what it does."""
    from tools.gpu_check import chain, conformance, inside, same, speed

    many = settings.share(4)
    return {
        "prepare": chain.prepare,
        "prepare-speed": speed.prepare_speed,
        "chain-device": partial(chain.run_chain, name="chain-device", device=settings.device, threads=1),
        "chain-cpu": partial(chain.run_chain, name="chain-cpu", device="cpu", threads=many),
        "chain-cpu-again": partial(chain.run_chain, name="chain-cpu-again", device="cpu", threads=many, plain=True),
        "more-models": chain.more_models,
        "conformance": conformance.conformance,
        "end-to-end": chain.end_to_end,
        "same-models": same.same_models,
        "same-tokens": same.same_tokens,
        "gradients": same.gradients,
        "one-epoch": same.one_epoch,
        "resume": inside.resume,
        "encoders": inside.encoders,
        "speed-device": partial(speed.speed, device=settings.device),
        "kmeans": speed.kmeans,
        "speed-cpu": partial(speed.speed, device="cpu"),
    }


def child(name: str, work: Path) -> int:
    """One part, in this process. Its report is written whatever happens."""
    settings, report = read_settings(work), Report(part=name)
    began = time.perf_counter()
    try:
        if name in settings.fail:
            raise RuntimeError(f"{name} was asked to fail")
        parts(settings)[name](settings, report)
    except BaseException as error:
        traceback.print_exc()
        report.error = said(error)
    report.seconds = time.perf_counter() - began
    report.write(settings.path(f"report-{name}.json"))
    return 1 if report.error else 0


def run(name: str, settings: Settings) -> Report:
    """One part, in a process of its own, and what it found."""
    found, log = settings.path(f"report-{name}.json"), settings.path(f"{name}.log")
    if settings.left < (LEAST if name in MEASURING else -GRACE):
        missed = Report(part=name)
        if name in MEASURING:
            missed.skipped.append(f"{name}: no time was left")
        else:
            missed.error = "not begun: the time was over"
        tell(missed, log)
        return missed
    threads = settings.threads if name in ("prepare", *MEASURING) else settings.share(8)
    device = "cpu" if name in ("speed-cpu", "chain-cpu", "chain-cpu-again") else settings.device
    words = [sys.executable, "-m", "tools.gpu_check", "--part", name, "--work", settings.work]
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            words, cwd=ROOT, env=environment(device, threads), stdout=stream, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(timeout=settings.left + GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    report = read_report(found) if found.exists() else Report(part=name)
    if process.returncode and not report.error:
        report.error = "stopped: the time was over" if settings.left < 0 else f"ended with status {process.returncode}"
    tell(report, log)
    return report


def tell(report: Report, log: Path) -> None:
    """A line for the part, the end of its output where something failed, and a line for each failure."""
    nothing = report.skipped and not (report.checks or report.tables)
    how = "FAIL" if report.failures else "SKIP" if nothing else "ok"
    lines = [f"{how:5}{report.part}  {report.seconds:.0f} s"]
    if report.failures and log.exists():
        lines += [log.read_text(encoding="utf-8", errors="replace")[-SHOWN:]]
    lines += [
        f"FAIL   {report.part}: {c.what}: CPU {c.cpu or '–'}, device {c.device or '–'}, {c.difference} ({c.tolerance})"
        for c in report.checks
        if not c.passed
    ]
    lines += [f"FAIL   {report.part}: {report.error}"] if report.error else []
    lines += [f"SKIP   {each}" for each in report.skipped]
    print("\n".join(lines), flush=True)


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m tools.gpu_check", description=__doc__)
    parser.add_argument("--device", default="cuda", help="what is compared with the CPU (cpu: a trial of the check)")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results" / "gpu.md", help="the page to write")
    parser.add_argument("--minutes", type=float, default=7.0, help="after which no measurement is begun")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads in all")
    parser.add_argument("--quick", action="store_true", help="everything small: a trial of the check")
    parser.add_argument("--fail", default="", metavar="PART,…", help="parts that raise, to see that it is told")
    parser.add_argument("--keep", type=Path, help="an empty folder for the working files, which are else removed")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(given)


def check(options: argparse.Namespace, work: Path) -> int:
    """All parts. Returns: the exit status, 1 if anything failed."""
    from tools.gpu_check import page

    began = time.time()
    settings = Settings(
        device=options.device, quick=options.quick, threads=options.threads, work=str(work.resolve()),
        until=began + 60 * options.minutes, fail=tuple(filter(None, options.fail.split(","))),
    )  # fmt: skip
    unknown = set(settings.fail) - set(parts(settings))
    if unknown:
        sys.exit(f"--fail: no part {', '.join(sorted(unknown))}; there are {', '.join(parts(settings))}")
    settings.write()
    reports: list[Report] = []
    for row in PLAN:
        with ThreadPoolExecutor(len(row)) as pool:
            reports += pool.map(partial(run, settings=settings), row)
    command = "make gpu-check" if not options.quick else "python -m tools.gpu_check --quick"
    page.write(settings, reports, options.output, command)
    failed = sum(report.failures for report in reports)
    print(page.measured(reports))
    print(f"{'FAIL' if failed else 'ok':5}{page.verdict(reports)} {time.time() - began:.0f} s; {options.output}")
    return 1 if failed else 0


def main(given: Sequence[str]) -> int:
    """The exit status."""
    options = arguments(given)
    if options.part:
        return child(options.part, options.work)
    import torch

    if options.device != "cpu" and not torch.cuda.is_available():
        sys.exit(f"--device {options.device}: torch {torch.__version__} finds no GPU here")
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        return check(options, options.keep)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        return check(options, Path(folder))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
