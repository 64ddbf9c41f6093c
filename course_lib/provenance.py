"""Which code of the project a function rests on, so that what it once gave can be known to be out of date."""

import inspect
import re
import types
from collections.abc import Callable, Iterator

__all__ = ["parts_of"]


def parts_of(function: Callable, projects: tuple[str, ...] = (), *, through_modules: bool = False) -> set[str]:
    """The sources (without white space) and constants of the project that a function or class reaches by name.

    `projects` are the top-level packages that are followed, the function's own unless given. With `through_modules`
    `module.name` is followed as well as `name`. The loaders of the data sets don't count: the sets are fixed.
    """
    projects = projects or (function.__module__.split(".")[0],)
    found: set[str] = set()
    seen: set[object] = set()
    todo: list[object] = [function]
    while todo:
        thing = todo.pop()
        if thing in seen:
            continue
        seen.add(thing)
        found.add(bare(inspect.getsource(thing)))
        members = list(vars(thing).values()) if isinstance(thing, type) else [thing]
        for member in (m for m in members if isinstance(m, types.FunctionType)):
            for name, value in reached(member, projects if through_modules else ()):
                if isinstance(value, types.FunctionType | type):
                    if belongs(value, projects):
                        todo.append(value)
                elif isinstance(value, bool | int | float | str | tuple | dict):
                    found.add(f"{name}={constant(value)}")
    return found


def reached(function: types.FunctionType, through: tuple[str, ...]) -> Iterator[tuple[str, object]]:
    """The names that a function uses with what they stand for in its module, or in a module of `through`.

    A decorator that keeps the function it wraps (by `functools.wraps`) is looked through.
    """
    function = inspect.unwrap(function)
    names = names_in(function.__code__)
    for name in names:
        value = None if name.startswith("__") else function.__globals__.get(name)
        if isinstance(value, types.ModuleType) and value.__name__.split(".")[0] in through:
            yield from ((attribute, vars(value)[attribute]) for attribute in names if attribute in vars(value))
        else:
            yield name, value


def bare(source: str) -> str:
    """Source without what a formatter may change: white space, line breaks, the comma before a closing bracket."""
    return re.sub(r",(?=[)\]}])", "", "".join(source.split()))


def belongs(thing: types.FunctionType | type, projects: tuple[str, ...]) -> bool:
    return thing.__module__.split(".")[0] in projects and not thing.__module__.startswith("course_lib.datasets")


def constant(value: object) -> str:
    """A constant as text that is the same in every process: functions and classes by name, nothing by address."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{constant(k)}:{constant(v)}" for k, v in value.items()) + "}"
    if isinstance(value, tuple):
        return "(" + ",".join(map(constant, value)) + ")"
    return getattr(value, "__name__", None) or re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def names_in(code: types.CodeType) -> set[str]:
    nested = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return set(code.co_names).union(*[names_in(inner) for inner in nested])
