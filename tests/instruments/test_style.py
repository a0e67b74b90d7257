"""The words that the code does not use, and the one idiom by which tests judge."""

import ast
import io
import subprocess
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.installation import suite

ROOT = suite()
#: Words of identifiers, comments and docstrings that have a plainer one. Keywords of a case are keys and stay.
WORDS = frozenset(
    [
        "told",
        "tells",
        "teller",
        "tellers",
        "newborn",
        "born",
        "birth",
        "witness",
        "whoever",
        "nobody",
        "somebody",
        "anybody",
        "trouble",
        "wish",
        "sight",
        "tally",
        "elsewhere",
    ]
)
#: Sentences that said less than their replacements.
PHRASES = (
    "whose checks none deviates any more",
    "as another machine understands them",
    "gives account of it",
    "In what the workers of one run must be alike",
    "Who we are outside of any sandbox",
    "what was said stays said",
    "one that was asked may not have listened",
    "is seen by nobody",
    "of the memory a call points to is looked at",
    "What others know about",
    "nobody has to wait",
)
#: Names that are keys of checks: a fixture's name is the keyword of its cases.
KEYWORDS = frozenset({"nobody"})


def sources() -> list[Path]:
    """Returns the Python files of the suite."""
    return sorted(path for room in ("probes", "tests", "tools", "bench") for path in (ROOT / room).rglob("*.py"))


def words_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yields (line, text) of every identifier that is defined, every comment and every docstring."""
    text = path.read_text()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            if not isinstance(node, ast.Module) and node.name not in KEYWORDS:
                yield node.lineno, node.name.replace("_", " ")
            yield getattr(node, "lineno", 1), ast.get_docstring(node) or ""
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id.replace("_", " ")
        elif isinstance(node, ast.arg) and node.arg not in KEYWORDS:
            yield node.lineno, node.arg.replace("_", " ")


def strange_words(path: Path) -> list[str]:
    """Returns where a file uses a word of WORDS or a phrase of PHRASES."""
    found = []
    for line, text in words_of(path):
        found += [f"{path.name}:{line}: {word}" for word in strange_in(text)]
    return found


def strange_in(text: str) -> list[str]:
    """Returns the words of WORDS and the phrases of PHRASES that a text has."""
    words = set("".join(c if c.isalpha() else " " for c in text).lower().split())
    return sorted((WORDS & words) | {phrase for phrase in PHRASES if phrase in text})


@pytest.mark.parametrize("room", ["probes", "tests", "tools", "bench"])
def test_no_word_that_strangers_stumble_over(room):
    """No identifier, comment or docstring has a word or phrase of the lists above."""
    paths = [path for path in sources() if path.is_relative_to(ROOT / room) and path.name != "test_style.py"]
    assert paths
    assert [line for path in paths for line in strange_words(path)] == []


def test_no_such_word_in_facts():
    """Facts are sentences of docs/coverage.md: their text has none of these words, nor does why one is not judged."""
    found = []
    for path in sorted((ROOT / "docs" / "facts").glob("*.toml")):
        facts = {fact: judged for table in tomllib.loads(path.read_text()).values() for fact, judged in table.items()}
        texts = [text for fact, judged in facts.items() for text in (fact, judged) if isinstance(text, str)]
        found += [f"{path.name}: {word}: {text}" for text in texts for word in strange_in(text)]
    assert found == []


@pytest.mark.parametrize("name", ["told = 1", "def whoever(): ...", "# tells the rest", '"""A newborn."""'])
def test_a_strange_word_is_found(name, tmp_path):
    """Each place where a word is looked for can fail."""
    path = tmp_path / "module.py"
    path.write_text(name + "\n")
    assert len(strange_words(path)) == 1


def late_judgements(text: str) -> list[int]:
    """Returns the lines of `expect(…).of(…)` whose value was computed before: it is not a call.

    `check = expect(…)`, the calls, then `check.of(…)` is the form for those.
    """
    found = []
    for node in ast.walk(ast.parse(text)):
        chained = (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("of", "seen")
            and isinstance(node.func.value, ast.Call)
            and isinstance(node.func.value.func, ast.Name)
            and node.func.value.func.id in ("expect", "expect_direct")
        )
        if chained and (node.func.attr == "seen" or len(node.args) != 1 or not _makes_a_call(node.args[0])):
            found.append(node.lineno)
    return found


def _makes_a_call(value: ast.expr) -> bool:
    while isinstance(value, ast.Subscript):
        value = value.value
    return isinstance(value, ast.Call)


def behaviour_files() -> list[Path]:
    """Returns the files of tests/ that judge behaviours."""
    return [path for path in sorted((ROOT / "tests").rglob("*.py")) if path.parent.name != "instruments"]


def test_checks_are_announced_before_their_calls():
    """`expect(value).of(call)` makes the call inside; a value computed before is judged by `check.of(value, result)`."""
    found = [f"{path.name}:{line}" for path in behaviour_files() for line in late_judgements(path.read_text())]
    assert found == []


@pytest.mark.parametrize(
    ("line", "late"),
    [
        ("expect(0).of(socket.bind(address))", False),
        ("expect(name).of(socket.sockname()[:8])", False),
        ("check = expect(0)\ncheck.of(name, result)", False),
        ("expect(0).of(result)", True),
        ("expect(name).of(name, result)", True),
        ("expect([0]).seen('ret', calls.bind(-1, 0))", True),
    ],
)
def test_a_late_judgement_is_found(line, late):
    """Each form of a judgement after the call is found, and no other."""
    assert bool(late_judgements(line)) == late


def test_no_test_imports_from_conftest():
    """Fixtures come by name; helpers have modules."""
    command = ["grep", "-rln", "conftest import", str(ROOT / "tests"), "--include=*.py", "--exclude=test_style.py"]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stdout == ""


#: What a docstring of a function begins with that names a thing, and has no verb.
NO_VERB = frozenset({"A", "An", "The", "Whether", "What", "Where", "How", "Which", "In", "Seconds", "Bytes"})


def without_verb(text: str) -> list[str]:
    """Returns the names of functions whose docstring begins with a word of NO_VERB."""
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    return [node.name for node in functions if (ast.get_docstring(node) or "-").split()[0] in NO_VERB]


def test_docstrings_of_functions_begin_with_a_verb():
    """Tests have a statement; what they import and the tools say what a function does."""
    paths = [path for path in sources() if not path.is_relative_to(ROOT / "tests")]
    assert [f"{path.name}: {name}" for path in paths for name in without_verb(path.read_text())] == []
    assert without_verb('def key():\n    """The key of a check."""') == ["key"]
