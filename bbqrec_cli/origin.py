"""Provenance of results: command, version, commit, packages and machine."""

from __future__ import annotations

import dataclasses
import os
import platform
import shlex
import subprocess
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bbqrec_cli
from bbqrec_cli.config import StageConfig, flag, role_of
from bbqrec_cli.errors import MissingPackageError
from bbqrec_cli.plugins import is_file, plugin_flags

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "numpy", "scipy", "faiss-cpu", "faiss-gpu-cu12", "sentence-transformers")


def origin(device: str, threads: int) -> dict[str, Any]:
    """Version, commit (if known), packages and machine, recorded with a step that runs now."""
    import torch

    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "bbqrec": bbqrec_cli.__version__, "commit": commit(), "python": platform.python_version(),
        "packages": packages, "system": platform.platform(terse=True), "processor": processor(),
        "cores": os.cpu_count(), "threads": threads or torch.get_num_threads(), "device": device_name(device),
    }  # fmt: skip


def ran_on(device: torch.device, threads: int, precision: str) -> dict[str, Any]:
    """Provenance for an output file. precision: the resolved one, 'fp32' or 'bf16'."""
    found = origin(str(device), threads)
    made = {key: found[key] for key in ("bbqrec", "commit", "device", "threads", "processor", "packages")}
    processes = int(os.environ.get("WORLD_SIZE", 1))
    return made | {"precision": precision} | ({"processes": processes} if processes > 1 else {})


def plugin_of(config: type) -> dict[str, str]:
    """{'plugin': distribution} of a method that another package registered, by its configuration class; {} for
    bbqrec's own. A package that no distribution installed goes by its own name, a single file by its file's."""
    modules = (config.__module__, getattr(config, "implementation", ""))
    tops = (each.partition(":")[0].partition(".")[0] for each in modules)
    other = next((top for top in tops if top not in ("", "bbqrec_cli")), "")
    if is_file(other):
        return {"plugin": f"{other}.py"}
    return {"plugin": packages_distributions().get(other, [other])[0]} if other else {}


def not_installed(where: str, what: str, plugin: str) -> MissingPackageError:
    """The error for a file whose method is not registered here.

    Args:
        where: the file; what: the method, such as "the model 'x'"; plugin: of `plugin_of`, '' if the file names none.
    """
    if plugin.endswith(".py"):
        hint = f"give the file with --plugin {plugin}, if you trust whom you have it from"
        return MissingPackageError(f"{where}: needs {what} of a plugin, the file {plugin}", hint)
    if plugin:
        said = f"{where}: needs {what} of the plugin {plugin}, which is not installed"
        return MissingPackageError(
            said, f"install {plugin} beside bbqrec, or give its file with --plugin, if you trust whom you have it from"
        )
    said = f"{where}: needs {what}, which this bbqrec does not have and no installed plugin registers"
    return MissingPackageError(said, "install the plugin or the version of bbqrec that made the file")


def command_line(command: str, config: StageConfig) -> str:
    """The command that is to do the same again: the files of plugins, and the options that are not the default and say
    more than how to run."""
    words, rest = ["bbqrec", command, *plugin_flags()], list[str]()
    for f in dataclasses.fields(config):
        value, says = getattr(config, f.name), role_of(f) not in ("", "runtime") and f.name not in ("force", "options")
        if f.metadata.get("positional"):
            words += map(str, value) if isinstance(value, tuple) else [str(value)]
        elif says and value not in (f.default, None, ()):
            values = value if f.metadata["repeatable"] else (value,)
            rest += [word for each in values for word in _flag_words(f.metadata["short"] or flag(f.name), each)]
    for key, value in getattr(config, "options", {}).items():
        rest += _flag_words(flag(key), value)
    return shlex.join([*words, *rest])


def _flag_words(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [name if value else f"--no-{name[2:]}"]
    if isinstance(value, float):
        return [name, str(value).removesuffix(".0")]
    return [name, ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)]


def commit() -> str:
    """The git commit of this code: of the clone, or what was written down when it was installed from one; else ''."""
    here = Path(bbqrec_cli.__file__)
    git = ["git", "-C", str(here.parent)]
    try:
        # An installed package inside another repository is not tracked there.
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], check=True, capture_output=True)
        head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
        dirty = subprocess.run([*git, "status", "--porcelain", "."], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        built = here.with_name("COMMIT")  # hatch_build.py
        return built.read_text(encoding="utf-8").strip() if built.is_file() else ""
    return head + (" with uncommitted changes" if dirty.strip() else "")


def processor() -> str:
    """The CPU's name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            return next(line.split(":", 1)[1].strip() for line in stream if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def device_name(name: str) -> str:
    """The torch device, with the GPU's name."""
    import torch

    from bbqrec_cli.device import resolve_device

    device = resolve_device(name)
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
