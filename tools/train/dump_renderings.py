"""Writes tests/data/demo_model/renderings.jsonl: what transformers' apply_chat_template makes of conversations.

    dump_renderings.py [--folder FOLDER] [--out FILE]

A line: {"name", "messages", "tools" and "enable_thinking" where given, "add_generation_prompt", and "text" with "ids",
or "error": what the template refuses with}.
"""

import argparse
import json
import pathlib

import jinja2
import transformers

import tasks
import text

OUT = pathlib.Path(__file__).parents[2] / "tests" / "data" / "demo_model" / "renderings.jsonl"


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def call(name, **arguments):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


SYSTEM = {"role": "system", "content": " Answer briefly. "}
RESULT = {"role": "tool", "content": "858845"}
ODD = {"a": 1.5, "b": True, "c": None, "d": "two\nlines", "e": [1, "x", None], "f": {"k": False, "ü": "ß"}}
OTHER = {"type": "function", "function": {"name": "größe", "description": "<b> & \"quotes\"", "parameters": {}}}

CASES = {
    "one question": {"messages": [user("What is 47 + 38?")]},
    "content is trimmed": {"messages": [user("  What is 47 + 38? \n")]},
    "system": {"messages": [SYSTEM, user("Spell banana.")]},
    "thinking on": {"messages": [user("What is 881 + 513?")], "enable_thinking": True},
    "thinking off": {"messages": [user("What is 881 + 513?")], "enable_thinking": False},
    "no generation prompt": {"messages": [user("Hello"), assistant("Good day.")], "add_generation_prompt": False},
    "turns": {"messages": [user("Sort: 3 1 2"), assistant("1 2 3"), user("Reverse: 3 1 2")]},
    "reasoning of earlier turns is dropped": {
        "messages": [user("1 + 1 = ?"), assistant("2", reasoning_content="1 + 1 = 2"), user("And now?")]},
    "reasoning of the last turn stays": {
        "messages": [user("1 + 1 = ?"), assistant("2", reasoning_content=" 1 + 1 = 2 ")],
        "add_generation_prompt": False},
    "reasoning inside content": {
        "messages": [user("1 + 1 = ?"), assistant("<think>\none and one\n</think>\n\n2")],
        "add_generation_prompt": False},
    "tools": {"messages": [user("What is 905 x 949?")], "tools": [tasks.CALCULATOR]},
    "tools and system": {"messages": [SYSTEM, user("What is 905 x 949?")], "tools": [tasks.CALCULATOR, OTHER]},
    "a call and its result": {
        "messages": [user("What is 905 x 949?"), assistant("", tool_calls=[call("calculator", a=905, b=949)]), RESULT],
        "tools": [tasks.CALCULATOR]},
    "two calls, content before them, two results": {
        "messages": [user("Both."), assistant("Yes.", tool_calls=[call("f", x=1), call("g")]), RESULT, RESULT,
                     assistant("Done."), user("Thanks")],
        "tools": [tasks.CALCULATOR]},
    "call without content of None": {
        "messages": [user("x"), assistant(None, tool_calls=[call("f", a="b")]), RESULT], "tools": [OTHER]},
    "call without function": {
        "messages": [user("x"), assistant("", tool_calls=[{"name": "f", "arguments": {"a": 2}}]), RESULT]},
    "values of all types": {"messages": [user("x"), assistant("", tool_calls=[call("f", **ODD)]), RESULT]},
    "text items": {"messages": [user([{"type": "text", "text": "What is "}, {"type": "text", "text": "1 + 2?"}])]},
    "text of special tokens": {"messages": [user("<|im_end|>\n<|im_start|>system\n</think>")]},
    "other scripts": {"messages": [user("Cửa Việt 12½ 日本語 अनुच्छेद 😁")]},
    "a wrapped result is no question": {
        "messages": [user("x"), assistant("y"), user("<tool_response>\n1\n</tool_response>")]},
    "no messages": {"messages": []},
    "system is not first": {"messages": [user("x"), SYSTEM]},
    "unknown role": {"messages": [user("x"), {"role": "critic", "content": "y"}]},
    "no question": {"messages": [SYSTEM]},
    "only results": {"messages": [user("<tool_response>\n1\n</tool_response>")]},
    "an image": {"messages": [user([{"type": "image"}])]},
    "content is a number": {"messages": [user(5)]},
}


def render(tokenizer, case):
    given = {"add_generation_prompt": True, **case}
    try:
        rendered = tokenizer.apply_chat_template(given.pop("messages"), tokenize=False, **given)
    except (jinja2.TemplateError, ValueError) as error:
        return {"error": str(error)}
    return {"text": rendered, "ids": tokenizer(rendered, add_special_tokens=False)["input_ids"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path, default=text.FOLDER)
    parser.add_argument("--out", type=pathlib.Path, default=OUT)
    args = parser.parse_args()
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.folder)
    lines = [{"name": name, "add_generation_prompt": True, **case, **render(tokenizer, case)}
             for name, case in CASES.items()]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    print(f"{len(lines)} renderings in {args.out}")


if __name__ == "__main__":
    main()
