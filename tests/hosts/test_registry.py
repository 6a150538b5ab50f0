from importlib.metadata import EntryPoint

import pytest

from evenreel import registry
from evenreel.errors import PluginError, SettingsError
from evenreel.hosts.base import Host, create_host
from evenreel.hosts.frame import FrameHost
from evenreel.hosts.vidtome.host import VidToMeHost
from evenreel.workflows.inspect.descriptions import host_summaries


@pytest.fixture
def plugins(monkeypatch):
    """Replace what is installed by entry points of the test's own."""
    found = []

    def entry_points(*, group, name=None):
        return [entry for entry in found if entry.group == group and name in (None, entry.name)]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    monkeypatch.setattr(registry, "_of_checkout", tuple)

    def add(name, value, group=registry.HOSTS):
        found.append(EntryPoint(name=name, value=value, group=group))
        registry._installed.cache_clear()  # no folder changed

    return add


def test_built_in_hosts_are_registered():
    assert {"frame", "vidtome"} <= set(registry.names(registry.HOSTS))
    assert create_host("frame") == FrameHost()
    assert create_host("vidtome", {"chunk_size": 2}) == VidToMeHost(chunk_size=2)
    assert isinstance(create_host("vidtome"), Host)


def test_a_package_that_comes_while_the_program_runs_is_found(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    assert "late" not in registry.names(registry.HOSTS)
    package = tmp_path / "late-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Name: late\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(f"[{registry.HOSTS}]\nlate = evenreel.hosts.frame:FrameHost\n")
    assert "late" in registry.names(registry.HOSTS)


def test_an_unknown_name_lists_those_that_exist(plugins):
    plugins("zebra", "evenreel.hosts.frame:FrameHost")
    plugins("ant", "evenreel.hosts.frame:FrameHost")
    with pytest.raises(PluginError, match="no host 'bee'; there are: ant, zebra"):
        registry.find(registry.HOSTS, "bee")


def test_no_plugins_at_all(plugins):
    with pytest.raises(PluginError, match="there are: none"):
        registry.find(registry.HOSTS, "bee")


@pytest.mark.parametrize(
    "value", ["no_such_package:Host", "evenreel.hosts.frame:Absent", "hosts.broken_plugin:Host"]
)
def test_a_plugin_that_fails_to_load_raises(plugins, value):
    plugins("broken", value)
    with pytest.raises(PluginError, match=r"the host 'broken' .* fails to load \(\w+Error: .*\)\.$"):
        registry.find(registry.HOSTS, "broken")


def test_one_that_fails_to_load_stands_in_the_list_with_the_reason(plugins):
    plugins("frame", "evenreel.hosts.frame:FrameHost")
    plugins("broken", "hosts.broken_plugin:Host")
    listed = host_summaries()
    assert "fails to load (ZeroDivisionError: on import)" in listed["broken"]
    assert listed["frame"].startswith("Per-frame editing")


def test_two_packages_with_one_name_are_refused(plugins):
    plugins("frame", "evenreel.hosts.frame:FrameHost")
    plugins("frame", "evenreel.hosts.frame:FrameHost")
    assert registry.find(registry.HOSTS, "frame") is FrameHost
    plugins("frame", "somebody.else:FrameHost")
    with pytest.raises(PluginError, match="several packages"):
        registry.find(registry.HOSTS, "frame")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"chunksize": 4}, "no setting chunksize; its settings are: align_branches, chunk_order, chunk_size"),
        ({"chunk_size": "4"}, "chunk_size must be a whole number, got '4'"),
        ({"chunk_size": True}, "chunk_size must be a whole number, got True"),
        ({"merge_global": 1}, "merge_global must be true or false, got 1"),
        ({"pnp_attn": None}, "pnp_attn must be a number, got None"),
        ({"chunk_size": -3}, "chunk_size must be at least 1, got -3"),
    ],
)
def test_options_are_checked(options, said):
    with pytest.raises(SettingsError, match=said):
        create_host("vidtome", options)


def test_whole_numbers_do_for_shares():
    assert create_host("vidtome", {"pnp_attn": 1, "pnp_conv": 0}) == VidToMeHost(pnp_attn=1.0, pnp_conv=0.0)
