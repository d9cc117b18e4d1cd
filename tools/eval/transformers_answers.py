"""Answers questions as deltaserve-eval does, with transformers: f32, greedy, one question at a time.

    transformers_answers.py --model FOLDER --questions FILE --out FILE [--task NAME,...] [--max-tokens N]

Prompts are rendered by the folder's template (apply_chat_template). A line of the output: {"id", "end", "prompt",
"tokens", "text"}: ids, the one that ended the answer left out. deltaserve-eval --against reads it.
"""

import argparse
import json
import pathlib
import sys

import transformers

sys.path.append(str(pathlib.Path(__file__).parents[1] / "reference"))
import transformers_model  # noqa: E402

TRACE = 20  # questions between two lines of progress


def read_questions(path, tasks):
    questions = [json.loads(line) for line in path.read_text().splitlines()]
    missing = set(tasks) - {question["task"] for question in questions}
    if missing:
        raise SystemExit(f"--task: {path} has no question of {', '.join(sorted(missing))}")
    return [question for question in questions if not tasks or question["task"] in tasks]


def answer(model, tokenizer, question, stops, most):
    """The line of one question."""
    rendered = tokenizer.apply_chat_template(
        question["messages"], tools=question.get("tools"), tokenize=False, add_generation_prompt=True,
        enable_thinking=question.get("thinking", False))
    prompt = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    tokens = transformers_model.greedy(model, prompt, stops, most)
    end = "stop" if tokens[-1] in stops else "length"
    if end == "stop":
        tokens.pop()
    return {"id": question["id"], "end": end, "prompt": prompt, "tokens": tokens,
            "text": tokenizer.decode(tokens, skip_special_tokens=False)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, required=True, help="published folder")
    parser.add_argument("--questions", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="file that gets the answers")
    parser.add_argument("--task", default="", help="only these tasks, with commas between them")
    parser.add_argument("--max-tokens", type=int, default=96, help="of an answer")
    args = parser.parse_args()
    questions = read_questions(args.questions, [task for task in args.task.split(",") if task])
    model = transformers_model.load(args.model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    stops = set(json.loads((args.model / "generation_config.json").read_text())["eos_token_id"])
    with args.out.open("w") as out:
        for index, question in enumerate(questions, 1):
            line = answer(model, tokenizer, question, stops, args.max_tokens)
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
            if index % TRACE == 0 or index == len(questions):
                print(f"\rtransformers: {index}/{len(questions)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


if __name__ == "__main__":
    main()
