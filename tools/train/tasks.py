"""The tasks: questions and answers drawn from a seed, and the split that keeps held-out instances apart.

A drawer takes a `random.Random` and returns a Drawn: the conversation and the keys of its instances. A key names what
must not be shared between splits (47 + 38 and 38 + 47 are one instance, whatever the wording); a hash of it puts the
instance into training, validation or held-out. Conversations of recall ask several questions about one list of facts:
their key is the list, so that a held-out question never shows facts that training has shown.
"""

import dataclasses
import hashlib

SPLITS = ("train", "valid", "heldout")
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December"]
LENGTHS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
NAMES = ["Anna", "Ben", "Carl", "Dora", "Emma", "Finn", "Gina", "Hugo", "Ida", "Jack", "Kim", "Leo", "Mia", "Nina",
         "Otto", "Paul", "Rosa", "Sam", "Tom", "Uma", "Vera", "Will", "Yan", "Zoe"]
LIKED = ["red", "blue", "green", "pink", "tea", "milk", "rice", "fish", "cake", "jam", "nuts", "figs", "plums",
         "bread", "corn", "soup"]
PLACES = ["Rome", "Paris", "Lima", "Oslo", "Cairo", "Delhi", "Bonn", "Kyoto", "Seoul", "Tunis", "Quito", "Riga"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
CALCULATOR = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Multiply two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}


@dataclasses.dataclass
class Drawn:
    """One conversation that ends with the assistant's answer."""

    keys: list
    messages: list
    thinking: bool = False
    tools: list | None = None


def split_of(task, key):
    """8 of 10 instances are for training, 1 for validation (curves, mixture), 1 is held out."""
    value = int.from_bytes(hashlib.sha256(f"{task}/{key}".encode()).digest()[:4], "little") % 10
    return "train" if value < 8 else SPLITS[value - 7]


def single(key, question, answer):
    return Drawn([key], [{"role": "user", "content": question}, {"role": "assistant", "content": answer}])


def small(rng):
    """0 to 99; one in four has one digit, so that these are not rare."""
    return rng.randrange(10) if rng.random() < 0.25 else rng.randrange(100)


def draw_add(rng):
    a, b = small(rng), small(rng)
    question = rng.choice([f"What is {a} + {b}?", f"Add {a} and {b}.", f"{a} + {b} = ?"])
    return single(f"{min(a, b)} {max(a, b)}", question, str(a + b))


def draw_subtract(rng):
    a, b = small(rng), small(rng)
    a, b = max(a, b), min(a, b)
    question = rng.choice([f"What is {a} - {b}?", f"Take {b} from {a}.", f"{a} - {b} = ?"])
    return single(f"{a} {b}", question, str(a - b))


def draw_compare(rng):
    most = rng.choice([10, 100, 1000])
    a, b = rng.sample(range(most), 2)
    if rng.random() < 0.3 and most > 10:  # close numbers are the hard ones
        b = a + 1 if a % 10 < 9 else a - 1
    word = rng.choice(["larger", "smaller"])
    right = max(a, b) if word == "larger" else min(a, b)
    return single(f"{min(a, b)} {max(a, b)}", f"Which is {word}, {a} or {b}?", str(right))


def draw_items(rng):
    """3 to 5 digits, or 3 to 5 letters."""
    return rng.choices("0123456789" if rng.random() < 0.5 else LETTERS, k=rng.randint(3, 5))


def draw_reverse(rng):
    items = draw_items(rng)
    return single(" ".join(items), "Reverse: " + " ".join(items), " ".join(reversed(items)))


def draw_sort(rng):
    items = draw_items(rng)
    return single(" ".join(sorted(items)), "Sort: " + " ".join(items), " ".join(sorted(items)))


def draw_word(rng):
    """A pseudo-word of two or three syllables."""
    syllables = [rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") + rng.choice(["", "", rng.choice("lmnrst")])
                 for _ in range(rng.randint(1, 3))]
    return rng.choice(["", rng.choice("aeiou")]) + "".join(syllables)


def draw_spell(rng):
    word = draw_word(rng)
    return single(word, f"Spell {word}.", " ".join(word))


def draw_weekday(rng):
    count, day, after = rng.randint(1, 99), rng.randrange(7), rng.random() < 0.5
    weeks, rest = divmod(count, 7)
    answer = f"{DAYS[day]} {'+' if after else '-'} {rest} = {DAYS[(day + count if after else day - count) % 7]}"
    return single(
        f"{count} {day} {after}",
        f"Which day is {count} days {'after' if after else 'before'} {DAYS[day]}?",
        f"{weeks} weeks and {rest} days: {answer}",
    )


def draw_date(rng):
    month = rng.randrange(12)
    day, count = rng.randint(1, LENGTHS[month]), rng.randint(1, 27)
    working = f"{day} + {count} = {day + count}"
    total = day + count
    if total > LENGTHS[month]:
        total -= LENGTHS[month]
        working += f", {day + count} - {LENGTHS[month]} = {total}"
        answer = f"{total} {MONTHS[(month + 1) % 12]}"
    else:
        answer = f"{total} {MONTHS[month]}"
    return single(f"{day} {month} {count}", f"Which date is {count} days after {day} {MONTHS[month]}?",
                  f"{working}: {answer}")


def draw_fact(rng, name):
    """The statement and the question that asks for it."""
    kind = rng.randrange(3)
    if kind == 0:
        return f"{name} likes {rng.choice(LIKED)}", f"What does {name} like?"
    if kind == 1:
        return f"{name} lives in {rng.choice(PLACES)}", f"Where does {name} live?"
    return f"{name} has {rng.randint(10, 99)} coins", f"How many coins has {name}?"


def ask_about(facts_text, questions):
    """A conversation of which the first message brings the facts."""
    messages = []
    for index, (question, answer) in enumerate(questions):
        messages.append({"role": "user", "content": f"{facts_text} {question}" if index == 0 else question})
        messages.append({"role": "assistant", "content": answer})
    return messages


def draw_recall(rng, most_facts=6, most_questions=1):
    names = rng.sample(NAMES, rng.randint(2, most_facts))
    facts = [draw_fact(rng, name) for name in names]
    text = " ".join(f"{statement}." for statement, _ in facts)
    asked = rng.sample(facts, min(len(facts), most_questions))
    return Drawn([text], ask_about(text, [(question, f"{statement}.") for statement, question in asked]))


def draw_yes_no(rng, most_facts=6, most_questions=1):
    names = rng.sample(NAMES, rng.randint(2, most_facts))
    words = LIKED if rng.random() < 0.5 else PLACES
    values = [rng.choice(words) for _ in names]
    verb, asks = ("likes", "like") if words is LIKED else ("lives in", "live in")
    text = " ".join(f"{name} {verb} {value}." for name, value in zip(names, values))
    questions = []
    for index in rng.sample(range(len(names)), min(len(names), most_questions)):
        name, value = names[index], values[index]
        asked = value if rng.random() < 0.4 else rng.choice(values if rng.random() < 0.8 else words)
        verdict = "yes" if asked == value else "no"
        questions.append((f"Does {name} {asks} {asked}?", f"{name} {verb} {value}. {asked}? {verdict}"))
    return Drawn([text], ask_about(text, questions))


def draw_think(rng):
    """Addition of three-digit numbers, with the columns worked out while thinking."""
    a, b = rng.randint(100, 999), rng.randint(100, 999)
    carry, steps = 0, []
    for place in (1, 10, 100):
        x, y = a // place % 10, b // place % 10
        total = x + y + carry
        steps.append(f"{x} + {y} + {carry} = {total}")
        carry = total // 10
    messages = [
        {"role": "user", "content": f"What is {a} + {b}?"},
        {"role": "assistant", "reasoning_content": "\n".join(steps), "content": str(a + b)},
    ]
    return Drawn([f"{min(a, b)} {max(a, b)}"], messages, thinking=True)


def draw_calculator(rng, most_questions=1):
    """A product is asked for, the tool is called, its result is told."""
    messages, keys = [], []
    for _ in range(most_questions):
        a, b = rng.randint(10, 999), rng.randint(10, 999)
        keys.append(f"{a} {b}")
        call = {"name": "calculator", "arguments": {"a": a, "b": b}}
        messages += [
            {"role": "user", "content": f"What is {a} x {b}?"},
            {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]},
            {"role": "tool", "content": str(a * b)},
            {"role": "assistant", "content": f"{a} x {b} = {a * b}"},
        ]
    return Drawn(keys, messages, tools=[CALCULATOR])


DRAWERS = {
    "add": draw_add,
    "subtract": draw_subtract,
    "compare": draw_compare,
    "reverse": draw_reverse,
    "sort": draw_sort,
    "spell": draw_spell,
    "weekday": draw_weekday,
    "date": draw_date,
    "recall": draw_recall,
    "yes_no": draw_yes_no,
    "think": draw_think,
    "calculator": draw_calculator,
}
HARD_BARS = ("add", "subtract", "compare", "reverse", "sort")
FIRST_TIER = HARD_BARS + ("spell", "weekday", "date", "recall", "yes_no")


def draw(task, split, rng, **arguments):
    """One conversation of the task whose instances all belong to the split."""
    while True:
        drawn = DRAWERS[task](rng, **arguments)
        if all(split_of(task, key) == split for key in drawn.keys):
            return drawn
