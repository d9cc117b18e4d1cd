"""Writes the goldens of the MTP layer: what transformers' parts draft for held-out questions, in f32.

    dump_drafts.py [--folder FOLDER] [--output DIR] [--check]

drafts.json, and drafts.f32 with raw little-endian rows of logits:

    { "weights": {file: sha256}, "vocab_size": V, "tolerance": the most that a logit may differ,
      "questions": [ {
          "task", "prompt": [p ids], "answer": [a greedy ids, up to the end],
          "top_ids": [[4] * n], "top_logits": [[4] * n],   n = p + a - 1: row t is the draft of token t + 2, made from
                                                           the final hidden state of t and token t + 1
          "row_positions": [r], "rows_offset": o,          full rows: row j at o + j * V in drafts.f32
          "chain": [3 ids], "chain_logits": [3] } ] }      drafts in a row behind prompt and answer[0]: each takes the
                                                           hidden state and the token of the one before
"""

import argparse
import hashlib
import json
import pathlib
import random
import sys

import torch

import export
import mtp_reference
import tasks
import text

sys.path.append(str(pathlib.Path(__file__).parents[1] / "reference"))
import transformers_model  # noqa: E402

OUTPUT = pathlib.Path(__file__).parents[2] / "tests" / "data" / "demo_model"
TOLERANCE = 5e-3
MARGIN = 1e-2  # the least gap between the two best of a chain or an answer: another order of sums chooses the same
CHAIN = 3
PER_TASK = 1
TOP = 4
ROWS = 4


class Drafter:
    def __init__(self, folder):
        self.reference = transformers_model.load(folder)
        self.mtp = mtp_reference.load(folder, self.reference.config)

    def hidden(self, ids):
        return self.reference.model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state

    def drafts(self, hidden, following):
        """Hidden states of the drafts [1, t, h] and their logits [t, V]."""
        out = self.mtp(hidden, self.reference.model.embed_tokens(torch.tensor([following])))
        return out, self.reference.lm_head(out)[0]

    def chain(self, prompt, first):
        """(ids, logits, the least margin) of drafts in a row."""
        hidden, following, ids, values, margin = self.hidden(prompt), prompt[1:] + [first], [], [], float("inf")
        for _ in range(CHAIN):
            out, logits = self.drafts(hidden, following)
            best = logits[-1].topk(2)
            ids.append(int(best.indices[0]))
            values.append(float(f"{best.values[0]:.7g}"))
            margin = min(margin, float(best.values[0] - best.values[1]))
            hidden, following = torch.cat([hidden, out[:, -1:]], dim=1), following + ids[-1:]
        return ids, values, margin


@torch.no_grad()
def one_question(drafter, conversations, task, rng, stops):
    """A golden question and its rows; draws until nothing in it is close."""
    while True:
        prompt = conversations.prompt_ids(tasks.draw(task, "heldout", rng))
        answer = transformers_model.greedy(drafter.reference, prompt, stops, export.MOST_TOKENS)
        ids = prompt + answer
        hidden = drafter.hidden(ids)
        best = drafter.reference.lm_head(hidden[0, len(prompt) - 1:-1]).topk(2).values
        chain, chain_logits, margin = drafter.chain(prompt, answer[0])
        if min(margin, float((best[:, 0] - best[:, 1]).min())) < MARGIN:
            continue
        _, logits = drafter.drafts(hidden[:, :-1], ids[1:])
        top = logits.topk(TOP)
        rows = sorted({0, len(prompt) - 2, len(prompt) - 1, len(ids) - 2})[:ROWS]
        entry = {
            "task": task, "prompt": prompt, "answer": answer, "top_ids": top.indices.tolist(),
            "top_logits": [[float(f"{value:.7g}") for value in row] for row in top.values.tolist()],
            "row_positions": rows, "rows_offset": 0, "chain": chain, "chain_logits": chain_logits,
        }
        return entry, logits[rows]


def make(folder):
    """(the golden, its rows as one f32 array)."""
    conversations, drafter = text.Conversations(folder), Drafter(folder)
    stops = set(json.loads((folder / "generation_config.json").read_text())["eos_token_id"])
    entries, rows = [], []
    for task in tasks.DRAWERS:
        rng = random.Random(f"drafts {task}")
        for _ in range(PER_TASK):
            entry, block = one_question(drafter, conversations, task, rng, stops)
            entry["rows_offset"] = sum(part.numel() for part in rows)
            entries.append(entry)
            rows.append(block)
    files = sorted(folder.glob("*.safetensors"))
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    golden = {"weights": digests, "vocab_size": rows[0].shape[1], "tolerance": TOLERANCE, "questions": entries}
    return golden, torch.cat([block.flatten() for block in rows]).numpy().astype("<f4")


def check(golden, rows, output):
    """Fails unless the committed files say the same."""
    committed = json.loads((output / "drafts.json").read_text())
    for ours, theirs in zip(golden["questions"], committed["questions"], strict=True):
        for key in ("task", "prompt", "answer", "chain", "row_positions", "rows_offset"):
            if ours[key] != theirs[key]:
                raise SystemExit(f"{ours['task']}: {key} is {ours[key]}, committed {theirs[key]}")
    stored = torch.frombuffer(bytearray((output / "drafts.f32").read_bytes()), dtype=torch.float32)
    worst = (torch.from_numpy(rows) - stored).abs().max().item()
    if committed["weights"] != golden["weights"] or not worst <= TOLERANCE:
        raise SystemExit(f"other weights, or logits differ by {worst:.1e}: run without --check")
    print(f"drafts as committed; largest difference {worst:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path, default=text.FOLDER)
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
    parser.add_argument("--check", action="store_true", help="compare with the committed files, write nothing")
    args = parser.parse_args()
    golden, rows = make(args.folder)
    if args.check:
        return check(golden, rows, args.output)
    args.output.mkdir(parents=True, exist_ok=True)
    packed = json.dumps(golden, separators=(",", ":")).replace('{"task"', '\n{"task"')
    (args.output / "drafts.json").write_text(packed + "\n")
    (args.output / "drafts.f32").write_bytes(rows.tobytes())
    print(f"{len(golden['questions'])} questions, {rows.size} logits in {args.output}")


if __name__ == "__main__":
    main()
