"""A process with everything imported, of which each job is a fork: jobs that are killed cost no second start.

It reads a job a line from its input, {"argv": [...], "folder": "...", "point": 3}, and answers two lines: the job's
process, and how it ended. `point` is the call of fsync or rename before which the job kills itself; 0 for none.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

import evenreel.workflows.editing.edit
import evenreel.workflows.training.adapter
import evenreel.workflows.training.data_build
from evenreel.backbones import load_backbone
from evenreel.cli import main
from evenreel.jobs import pace
from evenreel.study.run import actions

CALLS = ("fsync", "replace", "rename")


def counted(point: int) -> list[int]:
    """Let this process kill itself before that call."""
    count = [0]
    for name in CALLS:
        real = getattr(os, name)

        def call(*args, real=real):
            count[0] += 1
            if count[0] == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args)

        setattr(os, name, call)
    return count


def job(argv: list[str], folder: Path, point: int) -> None:
    """Run the command line; never returns."""
    os.chdir(folder)
    with (folder.parent / "said.txt").open("a") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    os.environ["EVENREEL_CACHE"] = str(folder / ".cache")
    pace.LEAST = 0  # jobs keep everything at once
    # the figures of a study take ten seconds an item, and are of no concern here
    actions.measured = lambda world, frames, clip: {"asked": float(frames.mean()), "kept": 1.0}
    count = counted(point)
    status = 99
    try:
        status = main(argv)
    finally:
        (folder.parent / "count.txt").write_text(str(count[0]))
        sys.stdout.flush()
        os._exit(status)


def serve() -> None:
    """Do jobs until the input ends."""
    torch.set_num_threads(1)
    with torch.no_grad():  # so that libraries are imported, too
        model = load_backbone(sys.argv[1], device="cpu")
        latents = model.encode(torch.zeros(1, 3, 64, 64))
        model.decode(model.predict_noise(latents, 1, model.embed(["a ball"])))
    print("ready", flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        child = os.fork()
        if not child:
            job(told["argv"], Path(told["folder"]), told["point"])
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    del evenreel.workflows
    serve()
