"""What the library shows to the outside: its modules, their public names, and what importing it costs."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
import types

import pytest

import course_lib

MODULES = [importlib.import_module(f"course_lib.{name}") for name in course_lib.__all__]
NAMES = [(module, name) for module in MODULES for name in getattr(module, "__all__", ())]


def test_all_names_every_module_and_nothing_else():
    assert course_lib.__all__ == sorted(module.name for module in pkgutil.iter_modules(course_lib.__path__))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_module_says_what_it_is_and_what_is_public(module):
    assert module.__doc__ and module.__doc__.strip()
    assert module.__all__ and len(set(module.__all__)) == len(module.__all__)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[f"{module.__name__}.{name}" for module, name in NAMES])
def test_every_public_function_and_class_has_a_docstring(module, name):
    thing = getattr(module, name)
    if isinstance(thing, types.FunctionType | type):
        assert inspect.getdoc(thing)


def test_importing_the_library_imports_neither_keras_nor_a_drawing_or_notebook_library():
    code = "import sys, course_lib\nfrom course_lib import *\n"
    heavy = ["keras", "tensorflow", "matplotlib", "ipywidgets", "IPython", "nbformat", "triton"]
    done = subprocess.run(
        [sys.executable, "-c", f"{code}print([name for name in {heavy} if name in sys.modules])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
