#!/usr/bin/env python3
"""Writes what jinja2 makes of our templates: the goldens of tests/router/text/template.

    python3.11 -m venv VENV && VENV/bin/pip install -r tools/template_goldens/requirements.txt
    VENV/bin/python tools/template_goldens/make_goldens.py            # writes the goldens
    VENV/bin/python tools/template_goldens/make_goldens.py --fuzz N --seed S --to DIR   # other cases, to compare once

conversations.jsonl: {"variables", "renders": {template: result}}, each conversation by three templates.
snippets.jsonl: {"source", "result"}; the first line is {"variables"} of them all. A result is {"text"}, or {"raised"},
the message of raise_exception, or {"error"}: "parse" or "render".
"""

import argparse
import json
import pathlib
import random

import conversations
import engine
import fuzz
import snippets

TESTS = pathlib.Path(__file__).resolve().parents[2] / "tests/router/text/template"
NUM_CONVERSATIONS = 360
SEED = 20260305


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines),
                    encoding="utf-8")
    print(f"{path}: {len(lines)} lines, {path.stat().st_size} bytes")


def rendered_conversations(rng, count):
    templates = {path.stem: path.read_text(encoding="utf-8") for path in sorted((TESTS / "templates").glob("*.jinja"))}
    others = [name for name in templates if name != "qwen3_5"]
    for i in range(count):
        variables = conversations.conversation(rng)
        # Before it is rendered it goes through JSON, as it does on its way to the C++ test.
        variables = json.loads(json.dumps(variables))
        names = ["qwen3_5", others[i % len(others)], others[(i // len(others) + i + 1) % len(others)]]
        yield {"variables": variables,
               "renders": {name: engine.render(templates[name], variables) for name in dict.fromkeys(names)}}


def rendered_snippets(sources):
    yield {"variables": snippets.VARIABLES}
    for source in dict.fromkeys(sources):
        result = engine.render(source, snippets.VARIABLES)
        if " at 0x" not in result.get("text", ""):  # an address, which we refuse to print
            yield {"source": source, "result": result}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fuzz", type=int, default=0, help="random snippets and a tenth as many conversations")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--to", type=pathlib.Path, default=TESTS / "goldens")
    parser.add_argument("-v", action="store_true", help="say what Python raised")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    options.to.mkdir(parents=True, exist_ok=True)
    count = options.fuzz // 10 if options.fuzz else NUM_CONVERSATIONS
    sources = [fuzz.snippet(rng) for _ in range(options.fuzz)] if options.fuzz else snippets.SOURCES
    write_lines(options.to / "conversations.jsonl", list(rendered_conversations(rng, count)))
    write_lines(options.to / "snippets.jsonl", list(rendered_snippets(sources)))


if __name__ == "__main__":
    main()
