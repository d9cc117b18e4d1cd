"""Measures the MTP layer on answers: how often its first draft of a token is the token that came.

    measure_drafts.py --answers FILE [--questions FILE] [--folder FOLDER]

FILE holds answers as deltaserve-eval --answers or transformers_answers.py write them. The first token of an answer is
the prompt's and is not drafted; the token that ends the answer is.
"""

import argparse
import json
import pathlib

import torch

import dump_drafts
import text

QUESTIONS = pathlib.Path(__file__).parents[1] / "eval" / "questions.jsonl"


@torch.no_grad()
def right_drafts(drafter, prompt, answer):
    """For answer[1:], whether each was the draft made of the hidden state two before and the token before."""
    ids = prompt + answer
    _, logits = drafter.drafts(drafter.hidden(ids[:-2]), ids[1:-1])
    return [int(best) == token for best, token in zip(logits[len(prompt) - 1:].argmax(-1), answer[1:], strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answers", type=pathlib.Path, required=True)
    parser.add_argument("--questions", type=pathlib.Path, default=QUESTIONS, help="that the answers belong to")
    parser.add_argument("--folder", type=pathlib.Path, default=text.FOLDER)
    args = parser.parse_args()
    drafter, end = dump_drafts.Drafter(args.folder), text.Conversations(args.folder).end
    task_of = {line["id"]: line["task"] for line in map(json.loads, args.questions.read_text().splitlines())}
    found, inner = {}, []
    for line in map(json.loads, args.answers.read_text().splitlines()):
        answer = line["tokens"] + ([end] if line["end"] == "stop" else [])
        if len(answer) < 2:
            continue
        right = right_drafts(drafter, line["prompt"], answer)
        found.setdefault(task_of[line["id"]], []).extend(right)
        inner += right[:-1] if line["end"] == "stop" else right
    everything = [one for part in found.values() for one in part]
    for name, part in (found | {"all": everything, "all but the ends": inner}).items():
        print(f"{name:18} {len(part):6} drafts {100 * sum(part) / max(1, len(part)):6.1f} % right")


if __name__ == "__main__":
    main()
