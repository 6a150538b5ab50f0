"""The public face: names that programs rely on, and an import that costs nothing."""

import subprocess
import sys

import evenreel

PUBLIC = {
    "AdapterUse",
    "Clip",
    "ClipError",
    "ControlUse",
    "DataError",
    "EditResult",
    "EditSettings",
    "EditedClip",
    "EvenreelError",
    "GenerateSettings",
    "GeneratedClip",
    "OutputError",
    "PluginError",
    "ResourceError",
    "SettingsError",
    "VideoInfo",
    "WeightsError",
    "__version__",
    "edit",
    "edit_file",
    "generate",
    "generate_file",
    "load",
    "load_backbone",
    "probe",
    "save",
}
"""A name may be added here; one that is taken away breaks somebody's program."""


def test_the_names_are_those_promised():
    assert set(evenreel.__all__) >= PUBLIC
    assert set(dir(evenreel)) == set(evenreel.__all__)


def test_every_name_is_there():
    for name in PUBLIC:
        assert getattr(evenreel, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(evenreel, "no_such_name")


def test_neither_the_package_nor_its_command_line_imports_torch():
    code = "import sys, evenreel, evenreel.cli; sys.exit('torch' in sys.modules or 'av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
