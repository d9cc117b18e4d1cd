"""Known mistakes, one at a time: which goldens would notice?

A mistake is a function that takes a `model.Model` and breaks one rule of it; others made most of them in earnest
(sections 3 and 9 of the model specification). The functions are in `mistakes_layers.py` and `mistakes_delta.py`. Each
is run over every golden as the C++ tests would see it: prompts in pieces of 64 tokens, then the greedy steps with the
golden's tokens.
"""

import dataclasses
import math
import multiprocessing

import torch

import golden as goldens
import model as plain

LENGTHS = (64, 65, 300)
DECODE_LENGTH = 65
DECODE_STEPS = 16
FACTOR = 20  # a mistake must move a logit by this many tolerances on some golden
BASELINE = 1e-4  # the unbroken model must be this close to every golden
LEAST = 25  # so many mistakes at least

MISTAKES = []  # (section, what is wrong, function), in the order of their files
MODELS = []  # what the processes of `run` work on


def mistake(section, text):
    """Enters a function into the list."""

    def enter(function):
        MISTAKES.append((section, text, function))
        return function

    return enter


def bf16(x):
    return x.to(torch.bfloat16).to(x.dtype)


def measure(golden, prompt, m, steps):
    """The largest difference from a golden prompt: rows, top 8, log-sum-exp, and `steps` greedy log-probabilities."""
    state = plain.State(m.config.num_layers)
    logits = m.forward(prompt["ids"], state, budget=plain.CHUNK)
    worst = goldens.difference(prompt, logits)
    row = logits[-1]
    for step in range(steps):
        token = prompt["greedy"][step]
        logprob = row[: golden["num_tokens"]].double().log_softmax(-1)[token]
        worst = max(worst, goldens.largest(logprob - prompt["greedy_logprobs"][step]))
        row = m.forward([token], state)[0]
    return worst


def measure_golden(golden, config, tensors, function):
    """The largest difference over the prompts of one golden; `function` None: the unbroken model."""
    worst = 0.0
    for prompt in golden["prompts"]:
        length = len(prompt["ids"])
        if function is not None and length not in LENGTHS:
            continue
        m = plain.Model(dataclasses.replace(config), tensors)
        steps = goldens.NUM_GREEDY if function is None else DECODE_STEPS * (length == DECODE_LENGTH)
        if function is not None:
            function(m)
        worst = max(worst, measure(golden, prompt, m, steps))
    return worst


def cell(value):
    if math.isinf(value):
        return "not a number"
    return f"{value:.2g}" if value > BASELINE else "-"


def measure_mistake(index):
    """One line's numbers; runs in a process of its own that has inherited `MODELS`."""
    with torch.no_grad():
        return [measure_golden(*one, MISTAKES[index][2]) for one in MODELS]


@torch.no_grad()
def run(models, output, jobs):
    """`models`: (golden, config, tensors) each. Writes the table; raises if a mistake would pass unseen."""
    torch.set_num_threads(1)  # the matrices are tiny: processes share the work instead
    for golden, config, tensors in models:
        worst = measure_golden(golden, config, tensors, None)
        print(f"{golden['model']}: the unbroken model differs by {worst:.1e}", flush=True)
        if worst > BASELINE:
            raise SystemExit(f"{golden['model']}: model.py differs from the golden by {worst:.1e} > {BASELINE}")
    MODELS.extend(models)
    needed = FACTOR * goldens.TOLERANCE
    lines, unseen = [], []
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        for (section, text, _), moved in zip(MISTAKES, pool.imap(measure_mistake, range(len(MISTAKES)))):
            lines.append(f"| {section} | {text} | " + " | ".join(cell(value) for value in moved) + " |")
            print(f"{section} {text}: {max(moved):.2g}", flush=True)
            if max(moved) < needed:
                unseen.append(f"{text} ({max(moved):.2g})")
    if unseen:
        raise SystemExit(f"moved no golden by {needed:g}: " + "; ".join(unseen))
    write_table(output, [golden["model"] for golden, _, _ in models], lines, needed)


def write_table(output, names, lines, needed):
    if len(lines) < LEAST:
        raise SystemExit(f"{len(lines)} mistakes, {LEAST} are wanted")
    text = f"""# Would the goldens notice?

Written by `tools/reference/dump_goldens.py --mutations`: {len(lines)} mistakes, each put alone into a plain torch model
(`tools/reference/model.py`) that otherwise agrees with every golden to {BASELINE:g}. A cell is the largest difference
of a logit, a log-sum-exp or a greedy log-probability from the committed golden, on the prompts of
{", ".join(map(str, LENGTHS))} tokens taken in pieces of 64 and on {DECODE_STEPS} decode steps; `-` is nothing above {BASELINE:g}.
The tests' tolerance is {goldens.TOLERANCE:g}; the script fails unless every mistake moves some golden by {needed:g} or
more. Sections are those of the model specification.

| section | mistake | {" | ".join(names)} |
|---|---|{"---|" * len(names)}
"""
    output.write_text(text + "\n".join(lines) + "\n")
