"""Find forbidden calls in an answer's source from outside the kernel, where nothing that ran can hide them.

Only the text of the notebook's cells is read; none of it runs. What text can't show (a name put together at run time)
is left to the watch inside the kernel (`probe.watch`).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["forbidden_in_cells"]

# Re-exports of these are known again by identity: torch.nn.modules.dropout.Dropout is torch.nn.Dropout.
ROOTS = ("torch", "keras", "tensorflow", "numpy", "course_lib")


@dataclass
class _Scope:
    """What the module level of the cells binds: names of modules, definitions, and star imports."""

    aliases: dict[str, str] = field(default_factory=dict)
    definitions: dict[str, ast.AST] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)


def forbidden_in_cells(sources: Iterable[str], answer: str, forbidden: Sequence[str]) -> tuple[str, ...]:
    """Those of the `forbidden` dotted names that the definition of `answer` uses, itself or through the cells' own
    functions and classes. `sources` are the code cells in order; a cell that can't be parsed is passed over.
    """
    if not forbidden:
        return ()
    scope = _Scope()
    for source in sources:
        tree = _parse(source)
        if tree is not None:
            _bind(tree, scope)
    things = {id(thing): name for name in forbidden if callable(thing := _look_up(name))}
    found: set[str] = set()
    queue, seen = [answer], set()
    while queue:
        name = queue.pop()
        if name in seen or name not in scope.definitions:
            continue
        seen.add(name)
        node = scope.definitions[name]
        local = _Scope(dict(scope.aliases), scope.definitions, scope.stars)
        _bind_imports(node, local)
        for dotted in _names(node, local):
            found.update(rule for rule in forbidden if dotted == rule or dotted.startswith(f"{rule}."))
            if dotted.split(".")[0] in ROOTS and (rule := things.get(id(_look_up(dotted)))):
                found.add(rule)
            queue.append(dotted.split(".")[0])
    return tuple(sorted(found))


def _parse(source: str) -> ast.Module | None:
    """The cell's syntax tree, IPython's magics and shell lines left out; None where there is none."""
    lines = ["" if line.lstrip().startswith(("%", "!", "?")) else line for line in source.splitlines()]
    for text in (source, "\n".join(lines)):
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return None


def _bind(tree: ast.AST, scope: _Scope) -> None:
    """Add what the statements of a cell bind, those inside if, for, with and try too; the last binding counts."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            scope.definitions[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name):
                        scope.definitions[name.id] = node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            _bind_import(node, scope)
        else:
            _bind(node, scope)


def _bind_imports(tree: ast.AST, scope: _Scope) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            _bind_import(node, scope)


def _bind_import(node: ast.Import | ast.ImportFrom, scope: _Scope) -> None:
    for name in node.names:
        if isinstance(node, ast.Import):
            bound, target = (name.asname, name.name) if name.asname else (name.name.split(".")[0],) * 2
        elif name.name == "*":
            scope.stars.append(node.module or "")
            continue
        else:
            bound, target = name.asname or name.name, f"{node.module}.{name.name}"
        scope.aliases[bound] = target


def _names(tree: ast.AST, scope: _Scope) -> Iterator[str]:
    """The dotted names that the code uses, written out in full where they come from an import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute | ast.Call):
            dotted = _dotted(node, scope)
            if dotted:
                yield dotted
                if "." not in dotted:
                    yield from (f"{module}.{dotted}" for module in scope.stars)


def _dotted(node: ast.AST, scope: _Scope) -> str:
    if isinstance(node, ast.Name):
        return scope.aliases.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        owner = _dotted(node.value, scope)
        return f"{owner}.{node.attr}" if owner else ""
    if isinstance(node, ast.Call):
        called = _dotted(node.func, scope)
        constants = [argument.value if isinstance(argument, ast.Constant) else None for argument in node.args]
        if called == "getattr" and len(constants) > 1 and isinstance(constants[1], str):
            owner = _dotted(node.args[0], scope)
            return f"{owner}.{constants[1]}" if owner else ""
        if called in ("importlib.import_module", "__import__") and constants and isinstance(constants[0], str):
            return constants[0]
    return ""


def _look_up(dotted: str) -> Any:
    """The thing of this name, if its package is imported already; nothing is imported for it."""
    first, *rest = dotted.split(".")
    thing: Any = sys.modules.get(first) if first in ROOTS else None
    for part in rest:
        thing = vars(thing).get(part) if thing is not None and hasattr(thing, "__dict__") else None
    return thing
