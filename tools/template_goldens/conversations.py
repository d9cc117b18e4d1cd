"""Seeded conversations that ask much of a template: odd values, missing fields, unicode, nested tools."""

TEXTS = [
    "Hello", "  padded \n", "line one\nline two\n\n", "", "naïve café – 東京 🚀 ünïcödé", "<b>&amp; \"quoted\" it's</b>",
    "tab\tand\rreturn", "control \x01 \x7f \u200b \u2028 end", "</think>", "<think>\nhidden\n</think>\n\nshown",
    "a</think>b</think>c", "<tool_response>\nold\n</tool_response>", "* starred *", "{{ not.a.template }} {% raw %}",
    "ΑΣ ΟΔΟΣ", "straße İI", "e\u0301 combining", "\u3000wide space\u00a0", "x" * 70, "back\\slash \\n",
]
VALUES = [
    0, 1, -7, 42, 1e16, 1.0, -0.0, 0.1, 1e-05, 123456789012, 1.5e300, True, False, None, "text", "ünï", "", "<&>'\"",
    [], {}, [1, [2, [3, None]]], {"deep": {"er": [True, {"k": 1e100}]}}, ["a", "b"], {"z": 1, "a": 2},
]
NAMES = ["get_weather", "search", "f", "compute_sum", "Überprüfen"]
KEYS = ["city", "unit", "items", "values", "a b", "x", "é", "keys"]


def arguments(rng):
    return {rng.choice(KEYS): rng.choice(VALUES) for _ in range(rng.randrange(4))}


def schema(rng, depth=0):
    kind = rng.choice(["string", "integer", "boolean", "number", "array", "object", "enum", "union", "odd"])
    if depth > 2 and kind in ("array", "object"):
        kind = "string"
    if kind == "object":
        names = rng.sample(KEYS, rng.randrange(1, 4))
        found = {"type": "object", "properties": {name: schema(rng, depth + 1) for name in names}}
        if rng.random() < 0.6:
            found["required"] = names[:1]
        return found
    if kind == "array":
        return {"type": "array", "items": schema(rng, depth + 1)}
    if kind == "enum":
        return {"type": "string", "enum": ["é", "b<c", 3]}
    if kind == "union":
        return {"type": ["string", "null"]}
    if kind == "odd":
        return {"description": "first\nsecond"}
    found = {"type": kind}
    if rng.random() < 0.5:
        found["description"] = rng.choice(["what it is", "two\nlines", "", "with \"quotes\" & <tags>"])
    return found


def tool(rng):
    parameters = {"type": "object", "properties": {name: schema(rng) for name in rng.sample(KEYS, 2)}}
    return {"type": "function", "function": {
        "name": rng.choice(NAMES), "description": rng.choice(TEXTS[:6]), "parameters": parameters}}


def content(rng):
    if rng.random() < 0.8:
        return rng.choice(TEXTS)
    return rng.choice([
        None, [{"type": "text", "text": rng.choice(TEXTS)}],
        [{"type": "text", "text": "see "}, {"type": "image"}, {"type": "text", "text": rng.choice(TEXTS)}],
        ["* plain *", "string"], [], 3, 2.5, True, {"a": 1},
    ] if rng.random() < 0.3 else [[{"type": "text", "text": rng.choice(TEXTS)}], [{"type": "image"}, {"type": "text", "text": "x"}]])


def tool_call(rng):
    call = {"name": rng.choice(NAMES), "arguments": arguments(rng)}
    if rng.random() < 0.2:
        return call if rng.random() < 0.5 else {"function": {"name": "f", "arguments": '{"s": 1}'}}
    found = {"type": "function", "function": call}
    if rng.random() < 0.7:
        found["id"] = rng.choice(["call12345", "c1", "0", "too_long_an_id"] if rng.random() < 0.2 else ["call12345", "c1"])
    return found


def assistant(rng):
    message = {"role": "assistant", "content": content(rng)}
    if rng.random() < 0.3:
        message["reasoning_content"] = rng.choice(["because", "\nline\nother\n", "", None, "ünï"])
    if rng.random() < 0.4:
        message["tool_calls"] = [tool_call(rng) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
        if rng.random() < 0.4:
            message["content"] = rng.choice([None, ""])
    elif rng.random() < 0.1:
        message["tool_calls"] = rng.choice([None, []])
    return message


def conversation(rng):
    """The variables of one rendering."""
    messages = []
    if rng.random() < 0.5:
        messages.append({"role": "system", "content": rng.choice(TEXTS)})
    for _ in range(rng.choice([1, 1, 2, 2, 3, 4])):
        messages.append({"role": "user", "content": content(rng)})
        if rng.random() < 0.8:
            answer = assistant(rng)
            messages.append(answer)
            for _ in range(len(answer.get("tool_calls") or []) if rng.random() < 0.9 else 0):
                messages.append({"role": "tool", "content": content(rng)})
    trouble = rng.random()
    if trouble < 0.03:
        messages.append({"role": "system", "content": "late"})
    elif trouble < 0.06:
        messages.append({"role": "critic", "content": "who?"})
    elif trouble < 0.08:
        messages = []
    elif trouble < 0.1:
        messages = [{"role": "assistant", "content": "alone"}]
    elif trouble < 0.12:
        messages[-1].pop("content")
    variables = {"messages": messages, "add_generation_prompt": rng.random() < 0.6,
                 "bos_token": "<s>", "eos_token": "</s>"}
    if rng.random() < 0.5:
        variables["tools"] = [tool(rng) for _ in range(rng.randrange(3))] if rng.random() < 0.9 else None
    if rng.random() < 0.5:
        variables["enable_thinking"] = rng.random() < 0.5
    if rng.random() < 0.2:
        variables["documents"] = [{"title": "T", "text": rng.choice(TEXTS)}, {"text": "untitled"}]
    if rng.random() < 0.2:
        variables["reasoning_effort"] = rng.choice(["low", "high", "absurd"])
    if rng.random() < 0.1:
        variables["date_string"] = "1 Jan 2025"
    return variables
