"""The format of the golden files (described in README.md): the one place that writes, reads and compares them."""

import json
import pathlib

import numpy as np
import torch

TOLERANCE = 1e-3  # the most that a logit may differ
MIN_MARGIN = 1e-2  # the least gap of the two best tokens in a greedy step
NUM_TOP = 8
NUM_ROWS = 16
NUM_GREEDY = 64
EDGES = (0, 1, 62, 63, 64, 65, 127, 128, 255, 256)  # chunk and block borders: full rows at these first


def row_positions(length):
    """At most 16 positions, ascending: the first, the last, those around borders, the rest spread evenly."""
    if length <= NUM_ROWS:
        return list(range(length))
    chosen = {p for p in EDGES if p < length} | {length - 1}
    spread = max(64, length)
    for step in range(1, spread):
        if len(chosen) == NUM_ROWS:
            break
        chosen.add(step * 389 % length)  # 389 is prime: the steps walk over the whole prompt
    return sorted(chosen)


def summarise(logits):
    """f32 [n, V] -> log-sum-exp [n], top ids and top logits [n, 8]."""
    top = logits.topk(NUM_TOP, dim=-1)
    return logits.double().logsumexp(-1), top.indices, top.values


def short(values):
    """Floats with 8 significant digits: the file keeps what f32 holds and nothing more."""
    return [float(f"{value:.8g}") for value in values.tolist()]


def make_prompt(seed, ids, logits, greedy, logprobs, margin):
    """One prompt's entry and its rows; `rows_offset` is set on writing."""
    lse, top_ids, top_logits = summarise(logits)
    positions = row_positions(len(ids))
    entry = {
        "seed": seed,
        "ids": list(ids),
        "lse": short(lse),
        "top_ids": top_ids.tolist(),
        "top_logits": [short(row) for row in top_logits],
        "row_positions": positions,
        "rows_offset": 0,
        "greedy": list(greedy),
        "greedy_logprobs": short(torch.tensor(logprobs, dtype=torch.float64)),
        "greedy_margin_min": float(f"{margin:.6g}"),
    }
    return entry, logits[positions].numpy().astype("<f4")


def write(folder, golden, rows):
    """Writes NAME.json and NAME.f32; `rows` has one array [r, V] a prompt."""
    offset = 0
    for prompt, block in zip(golden["prompts"], rows, strict=True):
        prompt["rows_offset"] = offset
        offset += block.size
    path = pathlib.Path(folder) / golden["model"]
    path.with_suffix(".f32").write_bytes(b"".join(block.tobytes() for block in rows))
    path.with_suffix(".json").write_text(json.dumps(golden, separators=(",", ":")).replace('{"seed"', '\n{"seed"') + "\n")


def read(folder, name):
    """The golden, with each prompt's rows under "rows" as a tensor [r, V]."""
    path = pathlib.Path(folder) / name
    golden = json.loads(path.with_suffix(".json").read_text())
    flat = torch.from_numpy(np.fromfile(path.with_suffix(".f32"), dtype="<f4").copy())
    for prompt in golden["prompts"]:
        start, count = prompt["rows_offset"], len(prompt["row_positions"])
        prompt["rows"] = flat[start : start + count * golden["vocab_size"]].view(count, -1)
    return golden


def largest(difference):
    """The largest magnitude; what is not a number differs without bound."""
    return torch.nan_to_num(difference.abs().double(), nan=float("inf")).max().item()


def difference(prompt, logits):
    """How far `logits` [n, V] are from the golden by all that it records: rows, the top 8 and log-sum-exp."""
    n = len(prompt["ids"])
    top = logits.gather(1, torch.tensor(prompt["top_ids"]))
    return max(
        largest(logits[prompt["row_positions"]] - prompt["rows"]),
        largest(top - torch.tensor(prompt["top_logits"]).view(n, NUM_TOP)),
        largest(logits.double().logsumexp(-1) - torch.tensor(prompt["lse"], dtype=torch.float64)),
    )
