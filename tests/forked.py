"""Processes that start at once: forked from one that has loaded every command and done nothing else.

Python, torch and Lightning take seconds to load, which most tests of several processes would spend several times.
"""

import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SERVER = """
import atexit, gc, json, os, runpy, signal, socket, sys, threading
from sivt_lightning.cli import HELP, command
from lightning.fabric.utilities.rank_zero import _get_rank, rank_zero_only

import torch.utils.tensorboard  # Lightning loads it for a training's first log
for verb in HELP:
    command(verb)
gc.freeze()  # or each child looks through all that is loaded, for garbage, before it ends
signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
asked = socket.socket(fileno=int(sys.argv[1]))
while True:
    length, given, _, _ = socket.recv_fds(asked, 8, 2)
    if not length:
        sys.exit()
    ask = json.loads(asked.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL))
    if "wait" in ask:
        answer = os.waitstatus_to_exitcode(os.waitpid(ask["wait"], 0)[1])
    else:
        answer = os.fork()
        if answer == 0:
            break
    asked.sendall(answer.to_bytes(8, "big", signed=True))
    for number in given:
        os.close(number)
asked.close()
os.setsid()
for number, target in zip((os.open(os.devnull, os.O_RDONLY), *given), (0, 1, 2)):
    os.dup2(number, target)
    os.close(number)
sys.stdout = open(1, "w", closefd=False)  # the old one still believes that it writes to the server's
signal.signal(signal.SIGINT, signal.default_int_handler)
os.chdir(ask["cwd"])
os.environ.clear()
os.environ.update(ask["env"])
rank_zero_only.rank = _get_rank() or 0  # which Lightning asks the environment for as it is loaded
sys.argv = ask["argv"]
code = None
try:
    if ask["code"] is None:
        runpy.run_module(ask["module"], run_name="__main__", alter_sys=True)
    else:
        exec(ask["code"], {"__name__": "__main__"})
except SystemExit as end:
    code = end.code
if "WORLD_SIZE" in ask["env"] or isinstance(code, str):
    sys.exit(code)  # one of several processes has to be seen to take its threads apart
# Python would free each of a million objects, for half a second.
threading._shutdown()
atexit._run_exitfuncs()
sys.stdout.flush()
sys.stderr.flush()
os._exit(code or 0)
"""


@functools.cache
def _server() -> socket.socket:
    ours, theirs = socket.socketpair()
    # It ends when this process does, which closes its end of the line.
    subprocess.Popen([sys.executable, "-c", SERVER, str(theirs.fileno())], pass_fds=[theirs.fileno()])
    theirs.close()
    return ours


def _asked(what: dict[str, Any], *files: int) -> int:
    message = json.dumps(what).encode()
    socket.send_fds(_server(), [len(message).to_bytes(8, "big")], files)
    _server().sendall(message)
    answer = _server().recv(8, socket.MSG_WAITALL)
    assert answer, "the server that processes are forked from has ended: its error is on the screen"
    return int.from_bytes(answer, "big", signed=True)


class Forked:
    """`python -m module *arguments`, or `python -c code *arguments`, in a session of its own."""

    def __init__(self, *arguments: str, module: str = "sivt_lightning", code: str | None = None, **env: str) -> None:
        self.argv = [module if code is None else "-c", *arguments]
        ask = {"argv": self.argv, "module": module, "code": code, "cwd": str(Path.cwd()), "env": os.environ | env}
        read, write = os.pipe()
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed in `wait`
        self.pid = _asked(ask, write, self._errors.fileno())
        os.close(write)
        self.stdout = os.fdopen(read)

    def wait(self, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """As subprocess.run does, until nobody writes any more, the processes that it started among them."""
        parts, end = [], time.monotonic() + timeout
        with self.stdout, self._errors:
            while True:
                ready, _, _ = select.select([self.stdout], [], [], max(0, end - time.monotonic()))
                part = os.read(self.stdout.fileno(), 2**16) if ready else b""
                if not part:
                    break
                parts.append(part)
            if not ready:
                os.killpg(self.pid, signal.SIGKILL)
            code = _asked({"wait": self.pid})
            self._errors.seek(0)
            done = subprocess.CompletedProcess(self.argv, code, b"".join(parts).decode(), self._errors.read())
        assert ready, f"not done after {timeout} s: {done}"
        return done


def run(*arguments: str, **settings: str) -> None:
    """To its end, which has to be a good one."""
    done = Forked(*arguments, **settings).wait()
    assert done.returncode == 0, done.stdout + done.stderr


def together(*arguments: str, **settings: str) -> list[subprocess.CompletedProcess[str]]:
    """Two processes that Lightning need not start, as on a cluster."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": "2"}
    both = [Forked(*arguments, **settings, **place, NODE_RANK="0", LOCAL_RANK=str(rank)) for rank in (0, 1)]
    return [process.wait() for process in both]


def run_two(*arguments: str, **settings: str) -> str:
    """To their end, which has to be a good one; what they say."""
    done = together(*arguments, **settings)
    assert [process.returncode for process in done] == [0, 0], done
    return done[0].stdout + done[1].stdout
