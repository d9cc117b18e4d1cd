"""jinja2 as transformers 5.23 sets it up for chat templates, and how a rendering is written down."""

import copy
import datetime
import json
import sys

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

NOW = datetime.datetime(2026, 3, 5, 7, 8, 9, 123)  # what strftime_now tells


class Generation(jinja2.ext.Extension):
    """The tag `generation`: a scope of its own that writes its body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


class Namespace(jinja2.utils.Namespace):
    """A namespace that takes no name with '_' in front."""

    def __init__(*args, **kwargs):
        values = dict(*args[1:], **kwargs)
        for name in values:
            Namespace.check(name)
        jinja2.utils.Namespace.__init__(args[0], values)

    def __setitem__(self, name, value):
        Namespace.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"not a name for a namespace: {name!r}")


class DictMaker:
    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)


class Raised(Exception):
    pass


def raise_exception(message):
    raise Raised(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def strftime_now(format):
    return NOW.strftime(format)


def make_environment():
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals.update(raise_exception=raise_exception, strftime_now=strftime_now,
                               dict=DictMaker(), namespace=Namespace)
    return environment


ENVIRONMENT = make_environment()


def render(source, variables):
    """{"text": ...}, or {"raised": message of raise_exception}, or {"error": "parse" or "render"}."""
    try:
        template = ENVIRONMENT.from_string(source)
    except (jinja2.exceptions.TemplateError, SyntaxError, RecursionError, MemoryError, ValueError, AssertionError):
        return {"error": "parse"}
    try:
        # A copy, since the filter indent changes a list that it is given.
        text = template.render(**copy.deepcopy(variables))
        text.encode("utf-8")
        return {"text": text}
    except Raised as error:
        return {"raised": str(error)}
    except Exception as error:  # whatever Python raises is an error to us
        print(f"{type(error).__name__}: {error}", file=sys.stderr) if "-v" in sys.argv else None
        return {"error": "render"}
