"""Python without its start: a process that has imported torch forks for each command.

`serve FOLDER` makes FOLDER/python, which takes a script, or -m and a module, and arguments as Python does, with its own
folder, environment, streams and exit status; SIGINT and SIGTERM are passed on. All of bbqrec is imported already, so
what a command forgets to import is not seen here.
"""

from __future__ import annotations

import array
import json
import os
import select
import shlex
import signal
import socket
import sys

CODE = 128 + signal.SIGKILL
"""Of a command that could not say how it ended."""


def ask(address: str, arguments: list[str]) -> int:
    """Have a command run; its exit status."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(address)
        request = json.dumps([arguments, os.getcwd(), dict(os.environ)]).encode()
        head = f"{len(request):16d}".encode()
        line.sendmsg([head], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
        line.sendall(request)
        running = int(line.recv(16))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os.kill(running, number))
        return int(line.recv(16) or CODE)


def serve(folder: str) -> None:
    """Run commands until stdin ends."""
    from importlib import import_module
    from pkgutil import walk_packages

    import faiss  # noqa: F401
    import torch

    import bbqrec_cli

    for each in walk_packages(bbqrec_cli.__path__, "bbqrec_cli."):
        if not each.name.endswith("__main__"):
            import_module(each.name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    torch.set_num_threads(1)
    address, script = os.path.join(folder, "socket"), os.path.join(folder, "python")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    words = [sys.executable, "-S", "-E", os.path.abspath(__file__), "ask", address]
    with open(script, "w") as file:
        file.write(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    os.chmod(script, 0o755)
    print("ready", flush=True)
    while listener in select.select([listener, 0], [], [])[0]:
        line, _ = listener.accept()
        head, ancillary, *_ = line.recvmsg(16, socket.CMSG_SPACE(3 * 4))
        streams = array.array("i", ancillary[0][2])
        request = b""
        while len(request) < int(head):
            request += line.recv(1 << 20)
        arguments, place, environment = json.loads(request)
        if "embed" in arguments:
            import sentence_transformers  # noqa: F401
        if os.fork() == 0:
            listener.close()
            line.sendall(f"{os.getpid():16d}".encode())
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            code = run(arguments, place, environment)
            line.sendall(f"{code:16d}".encode())
            os._exit(code)
        for stream in streams:
            os.close(stream)
        line.close()


def run(arguments: list[str], place: str, environment: dict[str, str]) -> int:
    """Run a command in this process; its exit status."""
    import atexit
    import runpy
    import traceback

    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    module = arguments[0] == "-m"
    sys.argv = arguments[1:] if module else arguments
    sys.path[0] = place if module else os.path.dirname(os.path.abspath(arguments[0]))
    more = [each for each in environment.get("PYTHONPATH", "").split(os.pathsep) if each and each not in sys.path]
    sys.path[1:1] = more
    code = 0
    try:
        if module:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # whoever read it is gone
            code = code or 1
    return code


if __name__ == "__main__":
    if sys.argv[1] == "ask":
        sys.exit(ask(sys.argv[2], sys.argv[3:]))
    serve(sys.argv[2])
