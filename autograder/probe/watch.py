"""Notice that a candidate uses what its exercise forbids: in its source, and while it runs."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import textwrap
import types
from collections.abc import Iterator
from typing import Any

from .records import ForbiddenCall

__all__ = ["forbidden_in_source", "watched"]


def forbidden_in_source(candidate: Any, forbidden: tuple[str, ...]) -> Iterator[str]:
    """The forbidden names that the candidate's own source spells out, even under an alias such as F or nn.

    This finds what the watch below can't: a base class, or a name bound before the watch began.
    """
    if not forbidden:
        return
    names = {id(thing): name for name in forbidden for _, _, thing in _targets(name)}
    home, queue, seen = _module_of(candidate), [candidate], set()
    while queue:  # the candidate, and the functions and classes of its own that it uses
        thing = queue.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if id(thing) in names:
            yield names[id(thing)]
            continue
        for target in _named_in(thing):
            if id(target) in names or (
                isinstance(target, types.FunctionType | type) and home and _module_of(target) == home
            ):
                queue.append(target)


def _module_of(thing: Any) -> str:
    name = getattr(thing, "__module__", "") if isinstance(thing, types.FunctionType | type) else ""
    return name if isinstance(name, str) else ""


def _named_in(thing: Any) -> Iterator[Any]:
    """The modules, classes and functions that the source of a function or class names."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
        scope = getattr(thing, "__globals__", None) or vars(inspect.getmodule(thing) or types.ModuleType(""))
    except Exception:  # no source, or an object that lies about where it comes from
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(scope, dict):
            target = _resolve(node, scope)
            if target is not None:
                yield target


def _resolve(node: ast.expr, scope: dict[str, Any]) -> Any:
    """The module, class or function that a dotted name stands for; None where it is no such plain name."""
    if isinstance(node, ast.Name):
        found = scope.get(node.id)
    elif isinstance(node, ast.Attribute):
        owner = _resolve(node.value, scope)
        found = vars(owner).get(node.attr) if isinstance(owner, types.ModuleType) else None
    else:
        return None
    return (
        found if isinstance(found, types.ModuleType | type | types.FunctionType | types.BuiltinFunctionType) else None
    )


def _targets(name: str) -> list[tuple[Any, str, Any]]:
    """(owner, attribute, thing) for a dotted name; a module stands for every function and class made in it."""
    with contextlib.suppress(ImportError):
        module = importlib.import_module(name)
        own = [(module, key, thing) for key, thing in vars(module).items() if getattr(thing, "__module__", "") == name]
        return [(owner, key, thing) for owner, key, thing in own if callable(thing)]
    owner, _, attribute = name.rpartition(".")
    module = importlib.import_module(owner)
    return [(module, attribute, getattr(module, attribute))]


@contextlib.contextmanager
def watched(forbidden: tuple[str, ...], used: set[str]) -> Iterator[None]:
    """Within the block, calling a forbidden function or making an object of a forbidden class is noted and refused."""

    def refusal(name):
        def refuse(*args, **kwargs):
            used.add(name)
            raise ForbiddenCall(name)

        return refuse

    with contextlib.ExitStack() as undo:
        for name in forbidden:
            for owner, attribute, thing in _targets(name):
                if isinstance(thing, type):
                    owner, attribute, thing = thing, "__init__", vars(thing).get("__init__")
                setattr(owner, attribute, refusal(name))
                if thing is None:  # the class inherits its __init__
                    undo.callback(delattr, owner, attribute)
                else:
                    undo.callback(setattr, owner, attribute, thing)
        yield
