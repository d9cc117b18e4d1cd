"""Writes the trained model as a published folder, and proves that transformers answers as the trainer does.

    export.py --run DIR [--folder FOLDER] [--questions N]

Takes the averaged weights of DIR/checkpoint.pt. Fails unless transformers loads the folder, holds every text tensor
bit for bit, and gives the trainer's greedy answers (stored weights, f32) to N held-out questions a task.
"""

import argparse
import json
import pathlib
import random
import sys

import torch

import model as demo
import tasks
import text
import weights

sys.path.append(str(pathlib.Path(__file__).parents[1] / "reference"))
import transformers_model  # noqa: E402

MOST_BYTES = 24_000_000
MOST_TOKENS = 80  # of an answer


def load_run(run):
    """The model with the averaged weights of a run, rounded as they are stored."""
    saved = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)
    model = demo.DemoModel(demo.Config())
    model.load_state_dict(saved["average"])
    weights.round_as_stored(model)
    print(f"step {saved['step']}, {saved['tokens'] / 1e6:.2f} M tokens, {saved['elapsed'] / 60:.1f} minutes")
    return model.eval()


@torch.no_grad()
def trainer_answer(model, ids, stops):
    """Greedy tokens after ids, the whole sequence computed anew for each."""
    ids, answer = list(ids), []
    while len(answer) < MOST_TOKENS and (not answer or answer[-1] not in stops):
        answer.append(int(model.logits(model(torch.tensor([ids]))[0, -1]).argmax()))
        ids.append(answer[-1])
    return answer


def compare_answers(model, folder, count):
    """Both answer; returns {task: share of right answers}."""
    conversations = text.Conversations(folder)
    reference = transformers_model.load(folder)
    stops = set(json.loads((folder / "generation_config.json").read_text())["eos_token_id"])
    scores, differ = {}, 0
    for task in tasks.DRAWERS:
        rng, right = random.Random(f"export {task}"), 0
        for _ in range(count):
            drawn = tasks.draw(task, "heldout", rng)
            ids = conversations.prompt_ids(drawn)
            ours = trainer_answer(model, ids, stops)
            theirs = transformers_model.greedy(reference, ids, stops, MOST_TOKENS)
            differ += ours != theirs
            right += (ids + ours) == conversations.encode(drawn)[0]
        scores[task] = right / count
        print(f"{task}: {100 * scores[task]:.0f} % right")
    if differ:
        raise SystemExit(f"transformers gives other answers than the trainer to {differ} questions")
    return scores


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=pathlib.Path, required=True, help="folder of the training")
    parser.add_argument("--folder", type=pathlib.Path, default=text.FOLDER, help="with its text files")
    parser.add_argument("--questions", type=int, default=10, help="a task that both answer")
    args = parser.parse_args()
    model = load_run(args.run)
    tokens = {"<|endoftext|>": text.Conversations(args.folder).pad}
    config = json.dumps(weights.config_json(model.config, tokens), indent=2) + "\n"
    (args.folder / "config.json").write_text(config)
    total = weights.write_tensors(model, args.folder)
    if total > MOST_BYTES:
        raise SystemExit(f"{total} bytes of weights: at most {MOST_BYTES} are to be shipped")
    compare_answers(model, args.folder, args.questions)
    print(f"{args.folder}: {total} bytes of weights; transformers holds them and gives the same answers")


if __name__ == "__main__":
    main()
