"""A study from its settings to its report."""

from datetime import UTC, datetime
from pathlib import Path

import torch

from evenreel._version import __version__
from evenreel.backbones import load_backbone
from evenreel.errors import SettingsError
from evenreel.study import report, runner
from evenreel.study.experiments import experiments, names
from evenreel.study.settings import StudySettings, as_json
from evenreel.workflows import record
from evenreel.workflows.progress import Progress, silent


def run_study(settings: StudySettings, out: Path, progress: Progress = silent) -> Path:
    """Run what has not been run yet and make the report; returns the report's path. Raises any EvenreelError."""
    if unknown := [name for name in settings.experiments if name not in names()]:
        raise SettingsError(f"there is no experiment {unknown[0]!r}; there are {', '.join(names())}.")
    backbone = load_backbone(settings.model)
    report.write_record(
        out,
        {
            "settings": as_json(settings),
            "fingerprints": runner.fingerprints(settings, backbone),
            "evenreel": __version__,
            "torch": torch.__version__,
            "machine": record.machine(backbone.device, backbone.dtype)["device_name"],
            "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
    runner.run(settings, experiments(settings), out, backbone, progress)
    return report.write_report(out)
