"""Writes the committed goldens: what transformers computes for the tiny models of `deltaserve-make_checkpoint`.

    dump_goldens.py --make BIN --work DIR [NAME...]   makes each golden model with BIN, then dumps it
    dump_goldens.py --model-dir DIR...                takes folders that exist; the last part of the path is the name
        --check        compares with the committed files and writes nothing
        --changed      allows models whose digest is not the one of the committed golden
        --mutations    runs known mistakes over the committed goldens and writes docs/reference-mutations.md
        --output DIR   where the goldens are (default: tests/data/goldens)

The format of the files is in README.md; `requirements.txt` says what must be installed. Every prompt is drawn from
the first seed for which (a) each of 64 greedy steps has a margin of at least 1e-2 between its two best tokens, (b)
f32 is within a tenth of the tolerance of f64 and (c) no routed expert wins by less than 1e-4: so another order of sums
gives the same tokens and logits within the tolerance, and whoever differs is wrong.
"""

import argparse
import hashlib
import json
import pathlib
import platform
import subprocess
import sys

import torch
import transformers

import checkpoint
import golden as goldens
import mistakes_layers  # noqa: F401  (enters its mistakes)
import mistakes_delta  # noqa: F401
import model as plain
import mutations
import prompts
import transformers_model

LENGTHS = (1, 63, 64, 65, 300)
LONG_LENGTH = 1500
LONG_MODELS = ("dense-deep",)
MAX_NOISE = goldens.TOLERANCE / 10
MIN_ROUTING_GAP = 1e-4
MAX_ATTEMPTS = 500
ROOT = pathlib.Path(__file__).resolve().parents[2]


class Subject:
    """One model: its folder, transformers' model of it and our own in f64."""

    def __init__(self, name, folder, digest):
        self.name, self.folder, self.digest = name, folder, digest
        self.config = checkpoint.read_config(folder)
        self.tensors = checkpoint.read_tensors(folder, self.config)
        self.num_tokens = checkpoint.read_num_tokens(folder, self.config)
        self.usable = prompts.usable_ids(folder, self.num_tokens)

    def load(self):
        self.reference = transformers_model.load(self.folder)
        self.exact = plain.Model(self.config, self.tensors, torch.float64)


def greedy(subject, logits, cache):
    """64 tokens after a prompt: ids, log-probabilities, the smallest margin and the rows they came from."""
    ids, logprobs, rows, margin = [], [], [], float("inf")
    row = logits[-1]
    for _ in range(goldens.NUM_GREEDY):
        real = row[: subject.num_tokens]
        best = real.topk(2)
        margin = min(margin, (best.values[0] - best.values[1]).item())
        if margin < goldens.MIN_MARGIN:
            return None
        ids.append(best.indices[0].item())
        logprobs.append(real.double().log_softmax(-1)[ids[-1]].item())
        rows.append(row)
        row = transformers_model.next_logits(subject.reference, ids[-1], cache)
    return ids, logprobs, margin, torch.stack(rows)


def exact_noise(subject, ids, tokens, logits, rows):
    """How far transformers' f32 is from our f64 over prompt and greedy steps, and the closest routing decision."""
    subject.exact.routing_gap = float("inf")
    exact = subject.exact.forward(ids + tokens[:-1])
    both = torch.cat([logits, rows[1:]])
    return goldens.largest(exact - both), subject.exact.routing_gap


def dump_prompt(subject, length):
    """The first prompt of that length that leaves room for rounding: entry, rows and what the manifest says of it."""
    for attempt in range(MAX_ATTEMPTS):
        seed = 1000 * length + attempt
        ids = prompts.draw(seed, length, subject.usable)
        logits, cache = transformers_model.prompt_logits(subject.reference, ids)
        steps = greedy(subject, logits, cache)
        if steps is None:
            continue
        tokens, logprobs, margin, rows = steps
        noise, gap = exact_noise(subject, ids, tokens, logits, rows)
        if noise > MAX_NOISE or gap < MIN_ROUTING_GAP:
            continue
        entry, block = goldens.make_prompt(seed, ids, logits, tokens, logprobs, margin)
        about = {"length": length, "attempts": attempt + 1, "noise": float(f"{noise:.2g}"), "margin": float(f"{margin:.3g}")}
        if subject.config.num_experts:
            about["routing_gap"] = float(f"{gap:.2g}")
        return entry, block, about
    raise SystemExit(f"{subject.name}: no prompt of {length} tokens leaves room in {MAX_ATTEMPTS} attempts")


@torch.no_grad()
def dump(subject, lengths, output):
    """Writes NAME.json and NAME.f32 and returns the manifest's entry."""
    subject.load()
    entries, blocks, about = [], [], []
    for length in lengths:
        entry, block, facts = dump_prompt(subject, length)
        entries.append(entry)
        blocks.append(block)
        about.append(facts)
        print(f"{subject.name}: {facts}", flush=True)
    std = sum(float(block.std()) for block in blocks) / len(blocks)
    golden = {
        "model": subject.name,
        "digest": subject.digest,
        "vocab_size": subject.config.vocab_size,
        "num_tokens": subject.num_tokens,
        "prompts": entries,
    }
    goldens.write(output, golden, blocks)
    return {"model": subject.name, "digest": subject.digest, "logit_std": float(f"{std:.3g}"), "prompts": about}


@torch.no_grad()
def check(subject, output):
    """Computes the committed prompts again; another machine may round otherwise, so within a tenth of the tolerance."""
    golden = goldens.read(output, subject.name)
    subject.load()
    for prompt in golden["prompts"]:
        logits, cache = transformers_model.prompt_logits(subject.reference, prompt["ids"])
        worst = goldens.difference(prompt, logits)
        steps = greedy(subject, logits, cache)
        if worst > MAX_NOISE or steps is None or steps[0] != prompt["greedy"]:
            raise SystemExit(f"{subject.name}: the prompt of seed {prompt['seed']} differs by {worst:.1e} or in its tokens")
        print(f"{subject.name}: {len(prompt['ids'])} tokens differ by {worst:.1e}", flush=True)


def output_of(command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def folder_digest(folder):
    """SHA-256 of what `sha256sum *` prints in the folder."""
    lines = ""
    for path in sorted(folder.iterdir(), key=lambda path: path.name.encode()):
        lines += f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
    return hashlib.sha256(lines.encode()).hexdigest()


def make_subjects(binary, work, wanted):
    """Runs the checkpoint maker for each golden; its own digest of the folder and ours must be one."""
    for name in wanted or output_of([binary, "--list"]).split():
        folder = pathlib.Path(work) / name
        output_of([binary, "--golden", name, "--output", str(folder), "--force"])
        digest = output_of([binary, "--digest", str(folder)]).strip()
        if digest != folder_digest(folder):
            raise SystemExit(f"{folder}: the checkpoint maker says digest {digest}, sha256 {folder_digest(folder)}")
        yield Subject(name, folder, digest)


def committed_digest(output, name):
    path = output / f"{name}.json"
    return json.loads(path.read_text())["digest"] if path.exists() else None


def refuse_changed(subjects, output):
    """The maker writes the same bytes everywhere: another digest than the committed one is a mistake or a decision."""
    for subject in subjects:
        known = committed_digest(output, subject.name)
        if known not in (None, subject.digest):
            raise SystemExit(
                f"{subject.name}: the committed golden is of digest {known}, the folder has {subject.digest}; "
                "if the model was changed on purpose, give --changed"
            )


def write_manifest(output, models):
    """Merges with what is there, so that one model can be dumped alone."""
    path = output / "manifest.json"
    known = {m["model"]: m for m in json.loads(path.read_text())["models"]} if path.exists() else {}
    known.update({m["model"]: m for m in models})
    manifest = {
        "tolerance": goldens.TOLERANCE,
        "min_margin": goldens.MIN_MARGIN,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "models": [known[name] for name in sorted(known)],
    }
    path.write_text(json.dumps(manifest, indent=1) + "\n")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only these goldens (with --make)")
    parser.add_argument("--make", metavar="BIN", help="deltaserve-make_checkpoint")
    parser.add_argument("--work", metavar="DIR", help="where --make puts the model folders; kept between runs")
    parser.add_argument("--model-dir", metavar="DIR", nargs="+", default=[])
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "tests" / "data" / "goldens")
    parser.add_argument("--table", type=pathlib.Path, default=ROOT / "docs" / "reference-mutations.md")
    parser.add_argument("--changed", action="store_true", help="dump models whose digest is not the committed one")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--mutations", action="store_true")
    parser.add_argument("--threads", type=int, default=2, help="threads, or processes of --mutations")
    arguments = parser.parse_args()
    if bool(arguments.make) == bool(arguments.model_dir) or bool(arguments.make) != bool(arguments.work):
        parser.error("give --make BIN with --work DIR, or --model-dir DIR...")
    return arguments


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    if arguments.make:
        subjects = list(make_subjects(arguments.make, arguments.work, arguments.names))
    else:
        folders = [pathlib.Path(path) for path in arguments.model_dir]
        subjects = [Subject(folder.name, folder, folder_digest(folder)) for folder in folders]
    if not arguments.changed:
        refuse_changed(subjects, arguments.output)
    if arguments.mutations:
        models = [(goldens.read(arguments.output, s.name), s.config, s.tensors) for s in subjects]
        mutations.run(models, arguments.table, arguments.threads)
    elif arguments.check:
        for subject in subjects:
            check(subject, arguments.output)
    else:
        arguments.output.mkdir(parents=True, exist_ok=True)
        done = []
        for subject in subjects:
            lengths = LENGTHS + ((LONG_LENGTH,) if subject.name in LONG_MODELS else ())
            done.append(dump(subject, lengths, arguments.output))
        write_manifest(arguments.output, done)


if __name__ == "__main__":
    sys.exit(main())
