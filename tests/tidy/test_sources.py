"""The sources keep the house rules that no linter knows.

Method: the syntax tree of every module, and the text of every file that git knows.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("shared", "host_daemon", "guest_agent", "race_explorer", "essa_cli")
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 400
GENERATED = "shared/essa/"
OURS = Path(__file__).relative_to(ROOT).as_posix()

FOREIGN_PLACES = re.compile(
    r"""(?<![\w.$}])/(?:work|opt|home|root|Users)/   # a machine's folders
      | \bpypi\.|\bpythonhosted\b|\bindex-url\b      # a package index
      | \b(?:\d{1,3}\.){3}\d{1,3}:\d+/               # a server by number
    """,
    re.VERBOSE,
)
TEMPORARY = re.compile(r"(?<![\w.$}])/(?:var/)?tmp/")
RACE = re.compile(r"RACE\(([^)]*)\)")
SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)+|R[0-9]+")


def _committed() -> list[str]:
    """Files under version control; without git, every file that is not hidden."""
    listed = subprocess.run(
        ["git", "ls-files"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        found = [p.relative_to(ROOT) for p in ROOT.rglob("*") if p.is_file()]
        return [p.as_posix() for p in found if not any(part[0] == "." for part in p.parts)]
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


FILES = _committed()
MODULES = [n for n in FILES if n.endswith(".py") and not n.startswith(GENERATED)]
SHIPPED = [n for n in MODULES if n.startswith(PACKAGES)]


def _tree(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(), name)


def _definitions(
    node: ast.AST, prefix: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """Every function and class with its dotted name, those inside functions included."""
    for child in ast.iter_child_nodes(node):
        name = prefix
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}{child.name}"
            yield name, child
            name += "."
        yield from _definitions(child, name)


def _public(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """What others may use: public names of modules and of public classes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if child.name.startswith("_"):
                continue
            yield f"{prefix}{child.name}", child
            if isinstance(child, ast.ClassDef):
                yield from _public(child, f"{prefix}{child.name}.")


def _says_itself(node: ast.AST) -> bool:
    """A body of nothing but `...`: an interface whose line carries its comment, or a stub."""
    if isinstance(node, ast.ClassDef):
        return False
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return all(
        isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant) and s.value.value is ...
        for s in node.body
    )


def test_there_is_something_to_look_at() -> None:
    assert len(SHIPPED) > 80
    assert len(MODULES) > len(SHIPPED)


@pytest.mark.parametrize("name", MODULES)
def test_functions_fit_a_screen_and_modules_a_sitting(name: str) -> None:
    lines = len((ROOT / name).read_text().splitlines())
    if name.startswith(PACKAGES):
        assert lines <= MODULE_LINES_MAX, f"{name} has {lines} lines"
    long = {
        f"{name}:{node.lineno} {dotted}": node.end_lineno - node.lineno + 1
        for dotted, node in _definitions(_tree(name))
        if not isinstance(node, ast.ClassDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
        and not _is_command_line(node)
    }
    assert not long


def _is_command_line(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A typer command: its options, with their help, are its signature."""
    first = node.body[0]
    return first.lineno - node.lineno > FUNCTION_LINES_MAX // 2 and (
        node.end_lineno is not None and node.end_lineno - first.lineno < FUNCTION_LINES_MAX
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_public_has_a_docstring(name: str) -> None:
    tree = _tree(name)
    bare = [
        f"{name}:{getattr(node, 'lineno', 0)} {dotted}"
        for dotted, node in _public(tree)
        if not _says_itself(node) and not ast.get_docstring(node)  # type: ignore[arg-type]
    ]
    if tree.body and not ast.get_docstring(tree):
        bare.insert(0, f"{name} as a module")
    assert not bare


def test_races_are_named_by_a_slug_or_a_row_of_the_catalogue() -> None:
    named = [(name, slug) for name in SHIPPED for slug in RACE.findall((ROOT / name).read_text())]
    assert named
    assert [pair for pair in named if not SLUG.fullmatch(pair[1])] == []


@pytest.mark.parametrize("tag", ["TODO", "FIXME", "XXX"])
def test_nothing_is_left_for_later(tag: str) -> None:
    pattern = re.compile(rf"#.*\b{tag}\b")
    assert [name for name in MODULES if pattern.search((ROOT / name).read_text())] == []


def test_nothing_names_a_machine_or_an_index() -> None:
    found = []
    for name in FILES:
        if name == OURS:
            continue
        try:
            text = (ROOT / name).read_text()
        except UnicodeDecodeError:
            continue  # traces
        patterns = [FOREIGN_PLACES] if name.startswith("tests/") else [FOREIGN_PLACES, TEMPORARY]
        for number, line in enumerate(text.splitlines(), 1):
            if any(pattern.search(line) for pattern in patterns):
                found.append(f"{name}:{number}: {line.strip()}")
    assert not found
