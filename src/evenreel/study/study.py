"""A study from its settings to its report."""

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from evenreel._version import __version__
from evenreel.errors import SettingsError
from evenreel.progress import Progress, silent
from evenreel.study import study_record
from evenreel.study.experiments.catalogue import experiments, names
from evenreel.study.report import report
from evenreel.study.run import item_run, making, runner
from evenreel.study.run.fingerprints import fingerprints
from evenreel.study.settings import StudySettings, as_json
from evenreel.workflows.editing.records import record


def run_study(
    settings: StudySettings, out: Path, progress: Progress = silent, *, processes: int | None = None
) -> Path:
    """Run what has not been run yet and make the report; returns the report's path. Raises any EvenreelError.

    `processes` share the work; None: one for each CPU core, at most four (each holds about 0.7 GB), or one on a GPU.
    """
    if unknown := [name for name in settings.experiments if name not in names()]:
        raise SettingsError(f"there is no experiment {unknown[0]!r}; there are {', '.join(names())}.")
    making.make_missing(settings, progress)
    context = item_run.Recipe.of(settings, out).context()
    if context.filmed:
        settings = replace(settings, first=0, clips=len(context.filmed))
    backbone = context.backbone
    if processes is None:
        processes = min(4, os.cpu_count() or 1) if backbone.device.type == "cpu" else 1
    prints = fingerprints(settings, context)
    study_record.write_record(
        out,
        {
            "settings": as_json(settings),
            "fingerprints": prints,
            "evenreel": __version__,
            "torch": torch.__version__,
            "machine": record.machine(backbone)["device_name"],
            "processes": processes,
            "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
    runner.run(settings, experiments(settings), out, prints, progress, context=context, processes=processes)
    return report.write_report(out)
