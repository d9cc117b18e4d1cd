"""Trains the demo model: one command, resumable, on CPU cores or a GPU.

    train.py --out DIR | --resume DIR [--minutes M] [--processes N] [--device cpu|cuda] [--start-from FOLDER]

The learning rate warms up, stays, and falls over the last fifth of the minutes, so that the time may be chosen freely.
DIR gets checkpoint.pt every few minutes and log.jsonl; with --resume the run goes on from there, its minutes counted
from its first start. SIGTERM saves and ends. --start-from begins with the weights of a published folder and a fresh
optimizer.
"""

import argparse
import json
import pathlib
import signal
import sys
import time

import torch
import torch.distributed
import torch.nn.functional as F

import batches
import fused
import model as demo
import tasks
import text
import weights

WARM_UP = 60  # steps
DECAY_SHARE = 0.2  # of the minutes
LAST_RATE = 0.03  # of the rate
CLIP = 1.0
BALANCE_WEIGHT = 0.01
MTP_WEIGHT = 0.2
AVERAGE = 0.998  # of the weights, a step
SAVE_SECONDS = 180
LINE_SECONDS = 20


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=pathlib.Path, help="folder that gets the checkpoint and the log")
    where.add_argument("--resume", type=pathlib.Path, help="folder of a run that is to go on")
    parser.add_argument("--minutes", type=float, default=130, help="of the whole run, resumed parts together")
    parser.add_argument("--start-from", type=pathlib.Path, help="published folder whose weights are the first ones")
    parser.add_argument("--processes", type=int, default=2, help="of one batch a step each (CPU)")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tokens", type=int, default=960, help="of a batch")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--mtp-from", type=float, default=0.5, help="share of the minutes before the MTP layer trains")
    parser.add_argument("--evaluate-minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def rate_at(step, share, rate):
    """Warm-up by steps, then constant, then a straight fall over the last fifth of the time."""
    fall = min(1.0, max(0.0, (1 - share) / DECAY_SHARE))
    return rate * min(1.0, (step + 1) / WARM_UP) * (LAST_RATE + (1 - LAST_RATE) * fall)


def groups(model):
    """Decay on matrices only: not on the embedding, convolutions and vectors."""
    decayed, others = [], []
    for name, parameter in model.named_parameters():
        plain = parameter.dim() < 2 or name == "embed_tokens" or name.endswith("conv1d")
        (others if plain else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]


def token_losses(model, hidden, batch, ahead):
    """(losses, weights, hits, rows) of the assistant's tokens, each seen from `ahead` positions before."""
    rows, columns = batch.wanted(ahead)
    logits = model.logits(hidden[rows, columns])
    target = batch.ids[rows, columns + ahead]
    hits = logits.argmax(-1) == target
    return F.cross_entropy(logits, target, reduction="none"), batch.weights[rows, columns + ahead], hits, rows


def losses(model, batch, with_mtp):
    """(what is minimised, the main loss, the MTP loss)."""
    hidden = model(batch.ids)
    main, weights, _, _ = token_losses(model, hidden, batch, 1)
    main = (main * weights).sum() / weights.sum()
    total, mtp = main, None
    if with_mtp:
        values, weights, _, _ = token_losses(model, model.draft(hidden, batch.ids), batch, 2)
        mtp = (values * weights).sum() / weights.sum()
        total = total + MTP_WEIGHT * mtp
    return total + BALANCE_WEIGHT * model.balance(with_mtp), main.item(), 0.0 if mtp is None else mtp.item()


@torch.no_grad()
def evaluate(model, fixed):
    """{task: (share of questions with every token right, share of first drafts right)}.

    Every token is the likeliest after the right ones before it exactly where greedy decoding gives the right answer.
    A draft counts where its token is the assistant's and so is the one before: those that decoding makes."""
    found = {}
    for task, parts in fixed.items():
        right = questions = drafts = drafted = 0
        for batch in parts:
            hidden = model(batch.ids)
            _, _, hits, rows = token_losses(model, hidden, batch, 1)
            wrong = torch.zeros(len(batch.ids), dtype=torch.long, device=batch.ids.device)
            right += int((wrong.index_add_(0, rows, (~hits).long()) == 0).sum())
            questions += len(batch.ids)
            rows, columns = batch.wanted(2)
            own = batch.weights[rows, columns + 1] > 0
            rows, columns = rows[own], columns[own]
            best = model.logits(model.draft(hidden, batch.ids)[rows, columns]).argmax(-1)
            drafts += int((best == batch.ids[rows, columns + 2]).sum())
            drafted += len(rows)
        found[task] = (right / questions, drafts / max(1, drafted))
    return found


class Run:
    """One process of the training. Process 0 evaluates, saves and prints."""

    def __init__(self, args, rank):
        self.args, self.rank, self.stopped = args, rank, False
        signal.signal(signal.SIGTERM, self.stop)
        torch.manual_seed(args.seed)
        torch.set_num_threads(args.threads)
        if args.device == "cpu":
            fused.use_fused()
        self.conversations = text.Conversations()
        self.model = demo.DemoModel(demo.Config()).to(args.device)
        self.optimizer = torch.optim.AdamW(groups(self.model), lr=args.rate, betas=(0.9, 0.95), fused=True)
        self.average = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.step = self.tokens = 0
        self.elapsed, self.accuracies = 0.0, {}
        if args.start_from:
            weights.read_published(args.start_from, self.model)
        if args.resume:
            self.load()
        self.flat = torch.zeros(sum(p.numel() for p in self.model.parameters()), device=args.device)
        offset = 0
        for parameter in self.model.parameters():  # all gradients in one tensor: one sum over the processes
            parameter.grad = self.flat[offset:offset + parameter.numel()].view_as(parameter)
            offset += parameter.numel()
        self.stream = batches.Stream(self.conversations, f"{args.seed} {rank} {self.step}", args.tokens, args.device)
        self.stream.follow(self.accuracies)

    def stop(self, *_):
        self.stopped = True

    def load(self):
        saved = torch.load(self.args.out / "checkpoint.pt", map_location=self.args.device, weights_only=True)
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.average = saved["average"]
        self.step, self.tokens, self.elapsed = saved["step"], saved["tokens"], saved["elapsed"]
        self.accuracies = saved["accuracies"]

    def save(self):
        path = self.args.out / "checkpoint.pt"
        torch.save({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                    "average": self.average, "step": self.step, "tokens": self.tokens, "elapsed": self.elapsed,
                    "accuracies": self.accuracies}, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def shared(self, values):
        """The sum over the processes."""
        tensor = torch.tensor(values, dtype=torch.float64)
        if self.args.processes > 1:
            torch.distributed.all_reduce(tensor)
        return tensor.tolist()

    def one_step(self, with_mtp, rate):
        batch = self.stream.next()
        self.flat.zero_()
        total, main, mtp = losses(self.model, batch, with_mtp)
        total.backward()
        if self.args.processes > 1:
            torch.distributed.all_reduce(self.flat)
            self.flat /= self.args.processes
        self.flat *= min(1.0, CLIP / (self.flat.norm().item() + 1e-6))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        keep = min(AVERAGE, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.model.parameters()), 1 - keep)
        self.step += 1
        return main, mtp, int((batch.ids != self.conversations.pad).sum())

    def with_average(self, call):
        """`call()` while the model holds the averaged weights."""
        held = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        try:
            self.put(self.average)
            return call()
        finally:
            self.put(held)

    @torch.no_grad()
    def put(self, values):
        for name, parameter in self.model.named_parameters():
            parameter.copy_(values[name])

    def measure(self, fixed):
        """Validation of the averaged weights, written to the log; every process learns the accuracies."""
        found = [0.0] * len(tasks.DRAWERS)
        if self.rank == 0:
            result = self.with_average(lambda: evaluate(self.model, fixed))
            found = [result[task][0] for task in tasks.DRAWERS]
            self.log({"valid": {task: round(value[0], 4) for task, value in result.items()},
                      "draft": {task: round(value[1], 4) for task, value in result.items()}})
            print("  ".join(f"{task} {100 * value[0]:.0f}/{100 * value[1]:.0f}" for task, value in result.items()),
                  flush=True)
        self.accuracies = dict(zip(tasks.DRAWERS, self.shared(found)))
        self.stream.follow(self.accuracies)

    def log(self, entry):
        entry = {"step": self.step, "tokens": self.tokens, "minutes": round(self.elapsed / 60, 2), **entry}
        with (self.args.out / "log.jsonl").open("a") as log:
            log.write(json.dumps(entry) + "\n")

    def line(self, main, mtp, rate, seconds, tokens):
        share = self.elapsed / (60 * self.args.minutes)
        bar = "#" * int(20 * share) + "." * (20 - int(20 * share))
        print(f"[{bar}] {self.elapsed / 60:5.1f}/{self.args.minutes:g} min  step {self.step}  {self.tokens / 1e6:.2f} M"
              f"  loss {main:.3f}  mtp {mtp:.3f}  rate {rate:.1e}  {tokens / seconds:.0f} tokens/s", flush=True)
        self.log({"loss": round(main, 4), "mtp": round(mtp, 4), "rate": rate})

    def train(self):
        fixed = batches.fixed(self.conversations, "valid", 50, 1, self.args.device) if self.rank == 0 else {}
        end = 60 * self.args.minutes
        last = time.monotonic()
        saved = evaluated = self.elapsed
        stopped = 0.0
        line_at, main_sum, mtp_sum, count, line_tokens = self.elapsed, 0.0, 0.0, 0, 0
        while self.elapsed < end:
            share = self.elapsed / end
            rate = rate_at(self.step, share, self.args.rate)
            main, mtp, tokens = self.one_step(share >= self.args.mtp_from, rate)
            now = time.monotonic()
            seconds, main, mtp, tokens, stopped = self.shared([now - last, main, mtp, tokens, self.stopped])
            last = now
            self.elapsed += seconds / self.args.processes  # the same in all processes
            self.tokens += int(tokens)
            main_sum, mtp_sum, count = main_sum + main, mtp_sum + mtp, count + self.args.processes
            line_tokens += tokens
            if self.elapsed - line_at >= LINE_SECONDS:
                if self.rank == 0:
                    self.line(main_sum / count, mtp_sum / count, rate, self.elapsed - line_at, line_tokens)
                line_at, main_sum, mtp_sum, count, line_tokens = self.elapsed, 0.0, 0.0, 0, 0
            if self.elapsed - evaluated >= 60 * self.args.evaluate_minutes:
                self.measure(fixed)
                evaluated = self.elapsed
            if self.elapsed - saved >= SAVE_SECONDS:
                if self.rank == 0:
                    self.save()
                saved = self.elapsed
            if stopped:
                break
        if not stopped:
            self.measure(fixed)
        if self.rank == 0:
            self.save()


def start(rank, args):
    if args.processes > 1:
        torch.distributed.init_process_group("gloo", init_method=f"file://{args.out.resolve()}/rendezvous", rank=rank,
                                             world_size=args.processes)
    Run(args, rank).train()


def main():
    args = arguments()
    if args.resume:
        args.out = args.resume
        if not (args.out / "checkpoint.pt").exists():
            sys.exit(f"--resume: {args.out / 'checkpoint.pt'} does not exist; start with --out")
    elif (args.out / "checkpoint.pt").exists():
        sys.exit(f"{args.out / 'checkpoint.pt'} exists: go on with --resume, or choose another --out")
    if args.device != "cpu":
        args.processes = 1
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "rendezvous").unlink(missing_ok=True)
    if args.processes == 1:
        start(0, args)
    else:
        signal.signal(signal.SIGTERM, lambda *_: None)  # a group's signal is for the processes that compute
        torch.multiprocessing.spawn(start, (args,), nprocs=args.processes)


if __name__ == "__main__":
    main()
