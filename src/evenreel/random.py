"""All randomness follows from a seed and from what it is drawn for."""

import torch

_PRIMES = (7_919, 104_729)
_OFFSETS = (0, 12_345, 54_321)


def generator(seed: int, *key: int) -> torch.Generator:
    """Make the generator of a seed and a key of up to two numbers (a step; a timestep and a frame).

    Draws for one key depend on nothing else: not on those for other keys, nor on how a clip is cut into windows.
    Neighbouring seeds share no draws. It lives on the CPU, so that a seed means the same on every device.
    """
    if not key:
        return torch.Generator().manual_seed(seed)
    mixed = sum(number * prime for number, prime in zip(key, _PRIMES[: len(key)], strict=True))
    return torch.Generator().manual_seed((seed * 1_000_003 + mixed + _OFFSETS[len(key)]) % 2**63)
