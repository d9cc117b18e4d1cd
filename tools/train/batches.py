"""Batches of conversations of like length, drawn by a mixture of tasks that follows the accuracies."""

import random

import torch

import tasks

BASE = {"add": 1.4, "subtract": 1.6, "compare": 0.8, "reverse": 0.6, "sort": 1.0, "spell": 0.8, "weekday": 1.0,
        "date": 0.8, "recall": 1.0, "yes_no": 1.0, "think": 0.15, "calculator": 0.03, "turns": 0.2}
MANY = {"recall": 6, "yes_no": 6, "calculator": 3}  # questions of one conversation
SYSTEMS = ["You are a helpful assistant.", "Answer briefly.", "You answer questions.", "Be exact.",
           "You are a small model. Answer with the result alone."]
SYSTEM_SHARE = 0.06  # of the conversations that begin with one of these
POOL = 16  # batches that are drawn together and cut by length


def mixture(accuracies):
    """Weights of the tasks: what is known well is drawn a fifth as often."""
    return {task: weight * (1.2 - accuracies.get(task, 0.0)) for task, weight in BASE.items()}


def draw_turns(rng, split):
    """Two or three single questions of different tasks in one conversation."""
    messages, keys = [], []
    for task in rng.sample(tasks.HARD_BARS + ("spell", "weekday", "date"), rng.randint(2, 3)):
        drawn = tasks.draw(task, split, rng)
        messages += drawn.messages
        keys += drawn.keys
    return tasks.Drawn(keys, messages)


def draw_one(rng, weights, split, most_facts):
    """One conversation of the mixture, some of them with a system message that changes nothing."""
    drawn = draw_task(rng, weights, split, most_facts)
    if rng.random() < SYSTEM_SHARE:
        drawn.messages.insert(0, {"role": "system", "content": rng.choice(SYSTEMS)})
    return drawn


def draw_task(rng, weights, split, most_facts):
    task = rng.choices(list(weights), list(weights.values()))[0]
    if task == "turns":
        return draw_turns(rng, split)
    arguments = {}
    if task in MANY:
        arguments["most_questions"] = 1 if rng.random() < 0.3 else MANY[task]
    if task in ("recall", "yes_no"):
        arguments["most_facts"] = most_facts
    return tasks.draw(task, split, rng, **arguments)


class Batch:
    """ids [b, t]; weights [b, t]: what the token at t counts in the loss, 0 where the assistant did not write it."""

    def __init__(self, encoded, pad, device):
        length = max(len(ids) for ids, _ in encoded)
        self.ids = torch.full((len(encoded), length), pad, dtype=torch.long)
        self.weights = torch.zeros(len(encoded), length)
        for row, (ids, written) in enumerate(encoded):
            self.ids[row, :len(ids)] = torch.tensor(ids)
            # A long answer counts more than a short one, but not by its length.
            self.weights[row, :len(ids)] = torch.tensor(written, dtype=torch.float32) / sum(written) ** 0.5
        self.ids, self.weights = self.ids.to(device), self.weights.to(device)

    def wanted(self, ahead):
        """(rows, columns) of the positions whose token `ahead` positions on is the assistant's."""
        return (self.weights[:, ahead:] > 0).nonzero(as_tuple=True)


def cut(encoded, tokens):
    """Lists of conversations that fill at most `tokens` positions when padded."""
    part, longest = [], 0
    for item in encoded:
        longest = max(longest, len(item[0]))
        if part and longest * (len(part) + 1) > tokens:
            yield part
            part, longest = [], len(item[0])
        part.append(item)
    yield part


class Stream:
    """An endless stream of batches of the training split. The same seed gives the same stream for the same mixture."""

    def __init__(self, conversations, seed, tokens, device):
        self.conversations, self.tokens, self.device = conversations, tokens, device
        self.rng = random.Random(seed)
        self.weights = mixture({})
        self.most_facts = 3
        self.ready = []

    def follow(self, accuracies):
        """Adapts the mixture; lists of facts grow as recall is learned."""
        self.weights = mixture(accuracies)
        self.most_facts = 3 if accuracies.get("recall", 0.0) < 0.5 else 8

    def next(self):
        if not self.ready:
            encoded, total = [], 0
            while total < POOL * self.tokens:
                encoded.append(self.conversations.encode(draw_one(self.rng, self.weights, "train", self.most_facts)))
                total += len(encoded[-1][0])
            # Some disorder, so that a batch is not of one task alone.
            encoded.sort(key=lambda item: len(item[0]) * self.rng.uniform(0.85, 1.15))
            self.ready = list(cut(encoded, self.tokens))
            self.rng.shuffle(self.ready)
        return Batch(self.ready.pop(), self.conversations.pad, self.device)


def fixed(conversations, split, count, seed, device, tokens=1024):
    """{task: batches} of `count` single questions a task, the same for the same seed."""
    found = {}
    for task in tasks.DRAWERS:
        rng = random.Random(f"{seed} {task}")
        encoded = sorted((conversations.encode(tasks.draw(task, split, rng)) for _ in range(count)),
                         key=lambda item: len(item[0]))
        found[task] = [Batch(part, conversations.pad, device) for part in cut(encoded, tokens)]
    return found
