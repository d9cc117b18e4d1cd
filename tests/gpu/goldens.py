"""Golden models through deltaserve-generate on a device, and how far its logits may be from transformers' f32
(docs/numerics.md).
"""

import array
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import time

import children

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "tests" / "data" / "goldens"
# Of published head sizes, of every form of checkpoint and layer.
MODELS = ("dense-tied", "dense-deep", "dense-one-kv-head", "moe-fused", "moe-per-expert", "next")

# Per device: root of the mean squared error of a row over the row's own deviation; the largest error over the same.
TOLERANCES = {"cpu": (1e-4, 1e-3), "cuda": (0.03, 0.15)}
# Share of rows that may be beyond it, as another expert was chosen in them: of mixtures on a GPU.
OTHER_EXPERTS = 0.2
MODEL_SECONDS = 120  # most for one model


def expected_rows(name):
    """The golden model's text, and for each prompt the logits at its row_positions."""
    golden = json.loads((GOLDENS / f"{name}.json").read_text())
    values = array.array("f")
    values.frombytes((GOLDENS / f"{name}.f32").read_bytes())
    if sys.byteorder == "big":
        values.byteswap()
    rows = []
    for prompt in golden["prompts"]:
        begins = [prompt["rows_offset"] + index * golden["vocab_size"] for index in range(len(prompt["row_positions"]))]
        rows.append([values[begin:begin + golden["vocab_size"]] for begin in begins])
    return golden, rows


def compare(row, expected, tolerance, token, where):
    """Refusals of one row of logits and the token that was chosen from it, or None where none was."""
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
    if token is not None and best - second > 2 * tolerance[1] * deviation and token != expected.index(best):
        found.append(f"{where}: token {token} was chosen, {expected.index(best)} is the best by {best - second:.2g}")
    return found, typical, worst


def generate(binaries, model, golden, ranks, flags, environment, deadline):
    """A parsed line of deltaserve-generate for each prompt."""
    with tempfile.TemporaryDirectory() as folder:
        questions, answers, log = (pathlib.Path(folder, name) for name in ("in.jsonl", "out.jsonl", "log"))
        questions.write_text("".join(json.dumps(
            {"id": index, "ids": prompt["ids"], "max_tokens": 8, "temperature": 0, "ignore_eos": True,
             "logits_at": prompt["row_positions"]}) + "\n" for index, prompt in enumerate(golden["prompts"])))
        with log.open("w") as output:
            code = children.run(
                [ROOT / "deploy/mpirun_one_host", "-n", str(ranks), *environment, binaries / "deltaserve-generate", "--model",
                 model, "--prompts", questions, "--output", answers, "--kv-memory", "64M", "--log-level", "warn", *flags],
                output, deadline, {"TMPDIR": folder})
        if code != 0:
            raise RuntimeError(f"deltaserve-generate: code {code}\n{log.read_text(errors='replace')[:1000]}")
        lines = [json.loads(line) for line in answers.read_text().splitlines()]
    errors = [line["error"] for line in lines if "error" in line]
    if errors:
        raise RuntimeError(f"deltaserve-generate: {errors[0]}")
    return lines


def check(binaries, device, ranks=1, flags=(), models=None, environment=(), deadline=math.inf):
    """Refusals of `models` (all) on `ranks` ranks until time.monotonic() is `deadline`; prints how far each was. `environment`:
    words before the program."""
    found = []
    models = models or MODELS
    for index, name in enumerate(models):
        if time.monotonic() >= deadline:
            return [*found, f"not run, as time was over: {', '.join(models[index:])}"]
        try:
            found += check_model(binaries, device, ranks, flags, name, environment, deadline)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            found.append(f"{name}, {ranks} ranks: {error}")
    return found


def check_model(binaries, device, ranks, flags, name, environment, deadline):
    """Refusals of one model."""
    golden, rows = expected_rows(name)
    threads = ["--threads", "1"] if device == "cpu" else []  # a GPU has none
    with tempfile.TemporaryDirectory() as folder:
        model = pathlib.Path(folder, "model")
        subprocess.run([binaries / "deltaserve-make_checkpoint", "--golden", name, "--output", model], check=True,
                       capture_output=True)
        config = (model / "config.json").read_text()
        answers = generate(binaries, model, golden, ranks, [f"--device={device}", *threads, *flags], environment,
                           min(deadline, time.monotonic() + MODEL_SECONDS))
    refused, errors = compare_all(answers, rows, TOLERANCES[device], f"{name}, {ranks} ranks")
    allowed = int(OTHER_EXPERTS * len(errors)) if device == "cuda" and "num_experts" in config else 0
    errors.sort()
    print(f"   {name}: error of rows over their deviation: {errors[len(errors) // 2]:.2g} in the middle, "
          f"{errors[-1]:.2g} at most; {len(refused)} of {len(errors)} beyond the bound, {allowed} allowed", flush=True)
    return refused if len(refused) > allowed else []


def compare_all(answers, rows, tolerance, where):
    """A refusal for each row that is too far off, the first thing that is wrong with it; the typical error of each."""
    refused, errors = [], []
    for index, (answer, expected) in enumerate(zip(answers, rows, strict=True)):
        for number, (row, golden) in enumerate(zip(answer["logits"], expected, strict=True)):
            row = [math.nan if value is None else value for value in row]  # as JSON has no word for it
            token = answer["tokens"][0] if number == len(expected) - 1 else None
            found, typical, _ = compare(row, golden, tolerance, token, f"{where}, prompt {index}, row {number}")
            refused += found[:1]
            errors.append(typical)
    return refused, errors
