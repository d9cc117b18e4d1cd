"""Golden models through deltaserve-generate on a device, and how far its logits may be from transformers' f32
(docs/numerics.md).
"""

import array
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "tests" / "data" / "goldens"
# Of published head sizes, of every form of checkpoint and layer.
MODELS = ("dense-tied", "dense-deep", "dense-one-kv-head", "moe-fused", "moe-per-expert", "next")

# Per device: root of the mean squared error of a row over the row's own deviation; the largest error over the same.
TOLERANCES = {"cpu": (1e-4, 1e-3), "cuda": (0.03, 0.15)}


def expected_rows(name):
    """The golden model's text, and for each prompt the logits at its last position."""
    golden = json.loads((GOLDENS / f"{name}.json").read_text())
    values = array.array("f")
    values.frombytes((GOLDENS / f"{name}.f32").read_bytes())
    if sys.byteorder == "big":
        values.byteswap()
    rows = []
    for prompt in golden["prompts"]:
        begin = prompt["rows_offset"] + (len(prompt["row_positions"]) - 1) * golden["vocab_size"]
        rows.append(values[begin:begin + golden["vocab_size"]])
    return golden, rows


def compare(row, expected, tolerance, token, where):
    """Refusals of one row of logits and the token that was chosen from it."""
    mean = math.fsum(expected) / len(expected)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in expected) / len(expected))
    errors = [abs(a - b) if math.isfinite(a) else math.inf for a, b in zip(row, expected, strict=True)]
    typical = math.sqrt(math.fsum(error * error for error in errors) / len(errors)) / deviation
    worst = max(errors) / deviation
    found = []
    if typical > tolerance[0]:
        found.append(f"{where}: typical error is {typical:.2g} of the row's deviation, {tolerance[0]:g} allowed")
    if worst > tolerance[1]:
        found.append(f"{where}: largest error is {worst:.2g} of the row's deviation, {tolerance[1]:g} allowed")
    best, second = sorted(expected)[-1], sorted(expected)[-2]
    if best - second > 2 * tolerance[1] * deviation and token != expected.index(best):
        found.append(f"{where}: token {token} was chosen, {expected.index(best)} is the best by {best - second:.2g}")
    return found, typical, worst


def generate(binaries, model, golden, ranks, flags, environment):
    """A parsed line of deltaserve-generate for each prompt."""
    with tempfile.TemporaryDirectory() as folder:
        questions, answers = pathlib.Path(folder, "in.jsonl"), pathlib.Path(folder, "out.jsonl")
        questions.write_text("".join(json.dumps(
            {"id": index, "ids": prompt["ids"], "max_tokens": 8, "temperature": 0, "ignore_eos": True,
             "logits_at": [-1]}) + "\n" for index, prompt in enumerate(golden["prompts"])))
        done = subprocess.run(
            [ROOT / "deploy/mpirun_one_host", "-n", str(ranks), *environment, binaries / "deltaserve-generate", "--model",
             model, "--prompts", questions, "--output", answers, "--kv-memory", "64M", "--threads", "1", "--log-level",
             "warn", *flags], capture_output=True, text=True, check=False, timeout=300,
            env={**os.environ, "TMPDIR": folder})
        if done.returncode != 0:
            raise RuntimeError(f"deltaserve-generate: code {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")
        return [json.loads(line) for line in answers.read_text().splitlines()]


def check(binaries, device, ranks=1, flags=(), models=MODELS, environment=()):
    """Refusals of all models on `ranks` ranks; prints how far each was. `environment`: words before the program."""
    found = []
    for name in models:
        golden, rows = expected_rows(name)
        with tempfile.TemporaryDirectory() as folder:
            model = pathlib.Path(folder, "model")
            subprocess.run([binaries / "deltaserve-make_checkpoint", "--golden", name, "--output", model], check=True,
                           capture_output=True)
            answers = generate(binaries, model, golden, ranks, [f"--device={device}", *flags], environment)
        if len(answers) != len(rows):
            found.append(f"{name}: {len(answers)} answers to {len(rows)} prompts")
            continue
        typical, worst = 0, 0
        for index, (answer, expected) in enumerate(zip(answers, rows)):
            refused, one_typical, one_worst = compare(answer["logits"][0], expected, TOLERANCES[device],
                                                      answer["tokens"][0], f"{name}, prompt {index}, {ranks} ranks")
            found += refused
            typical, worst = max(typical, one_typical), max(worst, one_worst)
        print(f"   {name}: error of {typical:.2g} of the deviation of logits, {worst:.2g} at most", flush=True)
    return found
