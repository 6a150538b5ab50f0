"""Records of before a host had a setting are repeated without what it does."""

import pytest

from evenreel.workflows.editing.repeat import _as_then

TOLD = {"host": "frame", "source_prompt": "a ball", "host_options": {"pnp_attn": 0.5}}


def test_a_record_of_before_has_no_attention_to_words():
    before = {"settings": TOLD, "host": {"name": "frame", "settings": {"pnp_attn": 0.5, "pnp_conv": 0.8}}}
    assert _as_then(before)["host_options"] == {"p2p_cross": 0.0, "pnp_attn": 0.5}


@pytest.mark.parametrize(
    "values",
    [
        {"settings": TOLD, "host": {"settings": {"p2p_cross": 0.5}}},
        {"settings": TOLD | {"source_prompt": ""}, "host": {"settings": {}}},
        {"settings": TOLD | {"host": "vidtome"}, "host": {"settings": {}}},
        {"settings": TOLD},
        {"settings": TOLD, "host": 3},
    ],
)
def test_others_are_as_they_were_told(values):
    assert _as_then(values) is values["settings"]
