"""A process with everything imported, of which each job is a fork: jobs of their own cost no second start.

It reads a job a line from its input, as `zygote.Zygote` writes it, and answers two lines: the job's process, and how
it ended. `point` is the call of fsync or rename before which the job kills itself; 0 for none.
"""

import json
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

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


def job(told: dict[str, Any], rank: int) -> None:
    """Run the command line, or a script; never returns."""
    folder, notes, argv = Path(told["folder"]), Path(told["notes"]), told["argv"]
    os.chdir(folder)
    for number, name in ((1, "printed.txt"), (2, "said.txt")):
        with (notes / name).open("a") as file:
            os.dup2(file.fileno(), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a program that a person starts
    os.environ.update(
        {**told["environment"], **({"RANK": str(rank), "LOCAL_RANK": str(rank)} if rank else {})}
    )
    if told["kept"]:
        os.environ["EVENREEL_CACHE"] = str(folder / ".cache")
        pace.LEAST = 0  # jobs keep everything at once
        # the figures of a study take ten seconds an item, and are of no concern here
        actions.measured = lambda world, frames, clip: {"asked": float(frames.mean()), "kept": 1.0}
    count = counted(told["point"])
    status = 99
    try:
        if told["script"]:
            sys.argv = [told["script"], *argv]
            runpy.run_path(told["script"], run_name="__main__")
            status = 0
        else:
            status = main(argv)
    except BaseException:  # noqa: BLE001 (nothing of this process may go on as the zygote)
        traceback.print_exc()
    finally:
        (notes / "count.txt").write_text(str(count[0]))
        sys.stdout.flush()
        sys.stderr.flush()
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
        children = []
        for rank in range(told["processes"]):
            children.append(os.fork())
            if not children[-1]:
                job(told, rank)
        print(children[0], flush=True)
        statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(next((status for status in statuses if status), 0), flush=True)


if __name__ == "__main__":
    del evenreel.workflows
    serve()
