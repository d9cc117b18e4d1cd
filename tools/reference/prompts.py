"""The seeded generator of prompt ids: the same ids from the same seed everywhere (SplitMix64)."""

import json
import pathlib

MASK = (1 << 64) - 1


def split_mix(seed):
    """Endless 64-bit numbers."""
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = seed
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def usable_ids(folder, num_tokens):
    """Real ids but those of special tokens: a server may refuse image and video pads."""
    added = json.loads((pathlib.Path(folder) / "tokenizer.json").read_text()).get("added_tokens", [])
    special = {token["id"] for token in added if token.get("special")}
    return [i for i in range(num_tokens) if i not in special]


def draw(seed, length, usable):
    numbers = split_mix(seed)
    return [usable[next(numbers) % len(usable)] for _ in range(length)]
