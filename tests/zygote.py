"""Processes of their own without the seconds that starting one takes: forks of one that has everything imported."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

SERVER = Path(__file__).with_name("zygote_server.py")


class Zygote:
    """The process that jobs are forks of. Its jobs run one after the other."""

    def __init__(self, model: Path) -> None:
        """`model` is a folder; what loads it is imported."""
        import evenreel  # here: when the tests' own imports are checked

        self.process = subprocess.Popen(
            [sys.executable, str(SERVER), str(model)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(evenreel.__file__).parents[1])},
        )
        assert self._said() == "ready"

    def _said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def begin(
        self,
        argv: Sequence[object],
        folder: Path,
        *,
        notes: Path | None = None,
        script: Path | None = None,
        processes: int = 1,
        kept: bool = False,
        point: int = 0,
    ) -> int:
        """Begin a job of the command line, or of a script, in a folder; return its process.

        What it prints and says goes to printed.txt and said.txt in `notes`, or beside the folder. With `kept` its cache
        is in the folder, and all that can be kept is kept at once. `point` is where it kills itself. Several
        `processes` are those of one training.
        """
        told = {
            "argv": [str(argument) for argument in argv],
            "folder": str(folder),
            "notes": str(notes or folder.parent),
            "script": str(script or ""),
            "processes": processes,
            "environment": together(processes) if processes > 1 else {},
            "kept": kept,
            "point": point,
        }
        assert self.process.stdin is not None
        print(json.dumps(told), file=self.process.stdin, flush=True)
        return int(self._said())

    def end(self) -> int:
        """Wait for the job; return its exit status."""
        return int(self._said())

    def run(self, argv: Sequence[object], folder: Path, *, after: float | None = None, **told) -> int:
        """Do a job, which is killed after some seconds; return its exit status."""
        child = self.begin(argv, folder, **told)
        if after is None:
            return self.end()
        timer = threading.Timer(after, kill, (child,))
        timer.start()
        status = self.end()
        timer.cancel()  # the child is reaped: its number is free
        return status


def kill(child: int) -> None:
    """Kill a job; one that ends at this very moment is gone already."""
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


def together(processes: int) -> dict[str, str]:
    """What `torchrun` and `accelerate launch` tell the first of several processes of one training."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {
        "WORLD_SIZE": str(processes),
        "RANK": "0",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
