"""An attention module seen by a processor with some of its projections replaced."""

from typing import Any

from evenreel.errors import SettingsError


class AttentionStandIn:
    """What a processor is given in the place of an attention module; a subclass replaces projections.

    Standing in for the module, not for its arithmetic, keeps whatever computes the attention (LoRA, fused kernels). All
    that is not replaced is the module's own.
    """

    def __init__(self, attn: Any) -> None:
        """Stand in for `attn`. Raises: SettingsError for a module whose projections are fused into one layer."""
        if getattr(attn, "fused_projections", False):
            raise SettingsError(
                "attention from other frames needs separate query, key and value layers; "
                "unfuse the model's projections."
            )
        self._attn = attn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._attn, name)
