#!/usr/bin/python3
"""Tests of the demo model's tasks: answers computed another way, splits, and the committed held-out questions."""

import datetime
import json
import pathlib
import random
import re
import sys
import unittest

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools" / "train"))
sys.dont_write_bytecode = True
import questions  # noqa: E402
import tasks  # noqa: E402


def draws(task, split="train", count=300, **arguments):
    rng = random.Random(task)
    return [tasks.draw(task, split, rng, **arguments) for _ in range(count)]


def parts(drawn):
    return drawn.messages[0]["content"], drawn.messages[-1]["content"]


def numbers(text):
    return [int(number) for number in re.findall(r"\d+", text)]


class AnswersTest(unittest.TestCase):
    def test_sums(self):
        for question, answer in map(parts, draws("add") + draws("think")):
            self.assertEqual(sum(numbers(question)), int(answer), question)

    def test_differences_are_of_the_larger_and_the_smaller(self):
        for question, answer in map(parts, draws("subtract")):
            self.assertEqual(max(numbers(question)) - min(numbers(question)), int(answer), question)

    def test_comparisons(self):
        for question, answer in map(parts, draws("compare")):
            right = max(numbers(question)) if "larger" in question else min(numbers(question))
            self.assertEqual(right, int(answer), question)

    def test_lists_and_words(self):
        for question, answer in map(parts, draws("reverse")):
            self.assertEqual(question.split()[1:][::-1], answer.split())
        for question, answer in map(parts, draws("sort")):
            self.assertEqual(sorted(question.split()[1:]), answer.split())
        for question, answer in map(parts, draws("spell")):
            self.assertEqual(f"Spell {answer.replace(' ', '')}.", question)

    def test_weekdays_follow_the_calendar(self):
        monday = datetime.date(2026, 11, 16)
        for question, answer in map(parts, draws("weekday")):
            days = numbers(question)[0]
            start = monday + datetime.timedelta(tasks.DAYS.index(question.split()[-1].rstrip("?")))
            end = start + datetime.timedelta(days if "after" in question else -days)
            self.assertEqual(end.strftime("%A"), answer.split()[-1], question)
            weeks, rest, again = numbers(answer)
            self.assertEqual((days, rest), (7 * weeks + rest, again))

    def test_dates_follow_the_calendar_of_a_common_year(self):
        for question, answer in map(parts, draws("date")):
            count, day = numbers(question)
            month = tasks.MONTHS.index(question.split()[-1].rstrip("?")) + 1
            end = datetime.date(2026, month, day) + datetime.timedelta(count)
            self.assertEqual(f"{end.day} {end.strftime('%B')}", answer.split(": ")[1], question)

    def test_recalled_facts_are_among_those_told(self):
        for drawn in draws("recall", most_facts=8, most_questions=6):
            told = drawn.messages[0]["content"]
            for question, answer in zip(drawn.messages[::2], drawn.messages[1::2]):
                self.assertIn(answer["content"], told)
                name = answer["content"].split()[0]
                self.assertIn(name, question["content"])

    def test_yes_and_no_follow_from_the_facts(self):
        seen = set()
        for question, answer in map(parts, draws("yes_no")):
            facts, asked = question.rsplit(". ", 1)
            name, value = re.match(r"Does (\w+) .* (\w+)\?", asked).groups()
            told = re.search(rf"{name} \w+(?: in)? (\w+)", facts)[1]
            verdict = "yes" if told == value else "no"
            self.assertTrue(answer.endswith(f" {told}. {value}? {verdict}"), question)
            seen.add(verdict)
        self.assertEqual(seen, {"yes", "no"})

    def test_the_calculators_result_is_the_product(self):
        for drawn in draws("calculator", count=50):
            a, b = numbers(drawn.messages[0]["content"])
            self.assertEqual(drawn.messages[1]["tool_calls"][0]["function"]["arguments"], {"a": a, "b": b})
            self.assertEqual(int(drawn.messages[2]["content"]), a * b)


class SplitTest(unittest.TestCase):
    def test_order_and_wording_do_not_make_another_instance(self):
        self.assertEqual(len({key for seed in range(3000) for key in tasks.draw_add(random.Random(seed)).keys
                              if key == "3 5"}), 1)
        keys = {tuple(sorted(parts(drawn)[0].split()[1:])): drawn.keys for drawn in draws("sort")}
        for items, key in keys.items():
            self.assertEqual(" ".join(items), key[0])

    def test_held_out_instances_are_many(self):
        for task in tasks.DRAWERS:
            keys = {key for drawn in draws(task, "heldout", 400) for key in drawn.keys}
            self.assertGreater(len(keys), 100, task)

    def test_no_instance_is_in_two_splits(self):
        for task in tasks.DRAWERS:
            found = [{key for drawn in draws(task, split, 200) for key in drawn.keys} for split in tasks.SPLITS]
            for first, second in ((0, 1), (0, 2), (1, 2)):
                self.assertFalse(found[first] & found[second], task)


class QuestionsTest(unittest.TestCase):
    def test_the_committed_questions_are_those_of_the_generator(self):
        committed = (ROOT / "tools" / "eval" / "questions.jsonl").read_text().splitlines()
        self.assertEqual([json.loads(line) for line in committed], list(questions.lines("heldout", "1", 60)))


if __name__ == "__main__":
    unittest.main()
