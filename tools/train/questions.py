"""Writes questions of one split as JSON lines: "id", "task", "messages", "answer", and "tools", "thinking" where used.

    questions.py --split heldout --seed S --per-task N [--out FILE]

"messages" ends before the assistant's last answer. A thinking answer has its working under "reasoning".
"""

import argparse
import json
import pathlib
import random
import sys

import tasks


def question(task, index, drawn):
    answer = drawn.messages[-1]
    line = {"id": f"{task}-{index}", "task": task, "messages": drawn.messages[:-1], "answer": answer["content"]}
    if drawn.tools:
        line["tools"] = drawn.tools
    if drawn.thinking:
        line |= {"thinking": True, "reasoning": answer["reasoning_content"]}
    return line


def call_question(index, drawn):
    """The first half of a conversation with the calculator: the right answer is the call."""
    call = drawn.messages[1]["tool_calls"][0]["function"]
    return {"id": f"calculator_call-{index}", "task": "calculator_call", "messages": drawn.messages[:1], "answer": "",
            "tool_calls": [call], "tools": drawn.tools}


def lines(split, seed, per_task):
    for task in tasks.DRAWERS:
        rng, seen = random.Random(f"{seed} {task}"), set()
        while len(seen) < per_task:
            drawn = tasks.draw(task, split, rng)
            if drawn.messages[0]["content"] in seen:
                continue
            seen.add(drawn.messages[0]["content"])
            yield question(task, len(seen), drawn)
            if task == "calculator":
                yield call_question(len(seen), drawn)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=tasks.SPLITS, default="heldout")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--per-task", type=int, default=60)
    parser.add_argument("--out", type=pathlib.Path, help="file; standard output without it")
    args = parser.parse_args()
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines(args.split, args.seed, args.per_task))
    if args.out:
        args.out.write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
