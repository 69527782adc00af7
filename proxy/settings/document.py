"""YAML to plain data, with the position of every key and value, and every mistake at once.

PyYAML composes the node tree, this module walks it. Owns: `${VAR}` in scalars, the refusal of
duplicate keys, and a stricter reading than YAML 1.1 (only true and false are booleans, `6432:5432`
is no number in base 60, there are no dates, tags or merge keys). Knows no setting by name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

Path = tuple[str | int, ...]
NODES_MAX = 100_000  # aliases make a small text mean a huge tree
DEPTH_MAX = 32


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file; lines and columns count from 1. Without a line: the whole file."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(slots=True)
class Document:
    """Data of a YAML text. `values` and `keys`: where each path stands; `mistakes`: what is wrong.

    A scalar that is a mistake is None in `data`, so that the rest can still be checked. `unknown`
    are paths whose value could not be had for a reason already told elsewhere.
    """

    file: str
    data: object = None
    values: dict[Path, Mark] = field(default_factory=dict)
    keys: dict[Path, Mark] = field(default_factory=dict)
    mistakes: list[tuple[Path, Mark, str]] = field(default_factory=list)
    unknown: set[Path] = field(default_factory=set)


class _Loader(yaml.SafeLoader):
    """Composes only. Its resolvers are YAML 1.2's core schema, without octal and hexadecimal."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


_NULL, _BOOL = "tag:yaml.org,2002:null", "tag:yaml.org,2002:bool"
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_STR = "tag:yaml.org,2002:str"
_Loader.add_implicit_resolver(_NULL, re.compile(r"(?:~|null|)$"), ["~", "n", ""])
_Loader.add_implicit_resolver(_BOOL, re.compile(r"(?:true|false)$"), list("tf"))
# No leading zeros: 08007 is a text, and nobody means octal.
_Loader.add_implicit_resolver(_INT, re.compile(r"-?(?:0|[1-9]\d{0,17})$"), list("-0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT, re.compile(r"-?(?:0|[1-9]\d{0,17})\.\d{1,9}$"), list("-0123456789")
)


def read_document(text: str, file: str, env: Mapping[str, str]) -> Document:
    """The document of a YAML text; what is wrong with it is in `mistakes`. Never raises on text."""
    document = Document(file)
    try:
        node = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        place, message = _not_yaml(error, text, file)
        document.mistakes.append(((), place, message))
    except yaml.YAMLError:
        message = "not YAML: control characters are not allowed"
        document.mistakes.append(((), Mark(file), message))
    except RecursionError:
        document.mistakes.append(((), Mark(file), "nested too deeply"))
    else:
        document.values[()] = Mark(file, 1, 1)
        if node is not None:
            document.data = _Walker(document, env).walk(node, (), 0)
    return document


def _not_yaml(error: yaml.MarkedYAMLError, text: str, file: str) -> tuple[Mark, str]:
    """Where and why, in PyYAML's own words, except where those quote the text."""
    problem = error.problem or "unreadable"
    mark = error.problem_mark or error.context_mark
    if "end of stream" in problem:  # what was begun and never ended says more than the end
        mark, problem = error.context_mark or mark, "the value that begins here has no end"
    assert mark is not None, "every error of the scanner, parser and composer has a place"
    around = text[max(0, mark.index - 1) : mark.index + 1]
    hint = ""
    if around == "${":
        hint = "; inside { } or [ ] put quotes around ${…}"
    elif "*" in around:
        hint = "; a value that begins with * needs quotes"
    problem = re.sub(r" '(?!<|.')[^']*'", "", problem)  # '<scalar>' and single characters stay
    return Mark(file, mark.line + 1, mark.column + 1), f"not YAML: {problem}{hint}"


class _Walker:
    """One pass over the node tree."""

    def __init__(self, document: Document, env: Mapping[str, str]) -> None:
        self._document = document
        self._env = env
        self._nodes_left = NODES_MAX

    def walk(self, node: yaml.Node, path: Path, depth: int) -> object:
        """The node's data; None where it is a mistake."""
        mark = self._mark(node)
        self._document.values[path] = mark
        self._nodes_left -= 1
        if self._nodes_left < 0 or depth > DEPTH_MAX:
            if self._nodes_left >= -1:
                self._mistake(path, mark, "nested too deeply, or too large through aliases")
                self._nodes_left = -1
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.walk(item, (*path, i), depth + 1) for i, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode), "the third and last kind of node"
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path, depth: int) -> dict[str, object]:
        data: dict[str, object] = {}
        for key_node, value_node in node.value:
            mark = self._mark(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._mistake(path, mark, "expected a name before the colon")
                continue
            key = str(key_node.value)
            if key in data:
                first = self._document.keys[(*path, key)]
                self._mistake((*path, key), mark, f"given twice, first on line {first.line}")
                continue
            self._document.keys[(*path, key)] = mark
            data[key] = self.walk(value_node, (*path, key), depth + 1)
        return data

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> object:
        text = str(node.value)
        if node.tag not in (_NULL, _BOOL, _INT, _FLOAT, _STR):
            self._mistake(path, self._mark(node), "tags (!…) are not used in settings")
            return None
        if "${" in text:
            # Expanded text stays text: a password of digits must not turn into a number.
            return self._expand(text, path, self._mark(node))
        if node.tag == _INT:
            return int(text) if re.fullmatch(r"-?\d+", text) else text
        if node.tag == _FLOAT:
            return float(text) if re.fullmatch(r"-?\d+\.\d+", text) else text
        if node.tag == _BOOL:
            return text == "true"
        return None if node.tag == _NULL else text

    def _expand(self, text: str, path: Path, mark: Mark) -> str | None:
        """`${VAR}`, `${VAR:-default}`, `${VAR:?message}`; `$${` is a plain `${`."""
        failed = False

        def replace(match: re.Match[str]) -> str:
            nonlocal failed
            if match[0] == "$${":
                return "${"
            name, operator, argument = match[1], match[2], match[3] or ""
            value = self._env.get(name or "")
            if name is None:
                complaint = "expected ${VAR}, ${VAR:-default} or ${VAR:?message}; write ${ as $${"
            elif operator is None and value is None:
                complaint = f"the environment variable {name} is not set"
            elif operator == ":?" and not value:
                complaint = f"the environment variable {name}: {argument or 'not set or empty'}"
            else:
                return value or (argument if operator == ":-" else "")
            self._mistake(path, mark, complaint)
            failed = True
            return ""

        expanded = _VARIABLE.sub(replace, text)
        return None if failed else expanded

    def _mark(self, node: yaml.Node) -> Mark:
        return Mark(self._document.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def _mistake(self, path: Path, mark: Mark, message: str) -> None:
        self._document.mistakes.append((path, mark, message))


# The last alternative catches what looks like a variable and is none.
_VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?:(:-|:\?)([^{}]*))?\}|\$\{")
