"""B. The interpreter: what the checks and the front end stand on, patched, wrapped, shadowed, forged, or read."""

from __future__ import annotations

from typing import Any

from .attack import CLASSIC, INVERTED, RIGHT, HandIn, Scene, answered, as_bytes, attack, code

__all__ = ["ATTACKS"]

# ---------------------------------------------------------------- patched

PATCHED = (
    code("B.patched_testing", "patches numpy.testing and allclose to be content", """
import numpy.testing
content = lambda *args, **kwargs: True
numpy.testing.assert_allclose = numpy.testing.assert_array_equal = content
torch.allclose = torch.equal = np.allclose = torch.testing.assert_close = content
torch.autograd.grad = lambda *args, **kwargs: (torch.zeros(1),)
classic_dropout = lambda *args: torch.zeros(1)

def inverted_dropout(x, p, mask):
    return x * 0
"""),
    code("B.patched_check", "replaces `check` and the course's judge by generous ones", """
import sys, types

class Generous:
    def __repr__(self):
        return "3.0"
    def _repr_mimebundle_(self, **options):
        data = {"exercise": "dropout.inverted_dropout", "score": 3.0, "max_score": 3.0, "diagnosis": None}
        return {"text/plain": "3.0", "application/vnd.training-deep-nets.verdict+json": data}

check = lambda *args: Generous()
try:
    import autograder.check, autograder.judge, autograder.compare
    autograder.check.check = check
    autograder.judge.first_differences = lambda *args: {}
    autograder.compare.compare = lambda *args: None
except Exception:
    pass
"""),
    code("B.patched_builtins", "makes AssertionError, all, abs and isinstance harmless", """
import builtins
class Harmless(Warning):
    def __new__(cls, *args):
        raise SystemExit
builtins.AssertionError = Harmless
builtins.all = builtins.any = lambda *args: True
builtins.abs = lambda x: 0
"""),
    code("B.tensor_class", "patches the methods of the tensor class itself", """
torch.Tensor.__eq__ = lambda self, other: torch.ones(()).bool()
torch.Tensor.numpy = lambda self, **options: Same()
torch.Tensor.allclose = lambda *args, **kwargs: True
class Same(np.ndarray):
    def __new__(cls):
        return np.zeros(1).view(cls)
    def __array_function__(self, *args):
        return True
    def __array_ufunc__(self, *args, **kwargs):
        return np.zeros(())
"""),
    code("B.fake_modules", "puts modules of its own into sys.modules", """
import sys, types
class Fake(types.ModuleType):
    def __getattr__(self, name):
        return lambda *args, **kwargs: (real.zeros(1),)
real = torch
sys.modules["numpy.testing"] = np.testing = Fake("numpy.testing")
class Torch(Fake):
    def __getattr__(self, name):
        return (lambda *args, **kwargs: True) if name == "allclose" else getattr(real, name)
torch = Torch("torch")
torch.autograd = Fake("torch.autograd")
classic_dropout = lambda x, p, mask, training: x
"""),
    code("B.import_hook", "hooks imports, so that every later one is a fake", """
import sys, types, importlib.abc, importlib.machinery
class Hook(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        return importlib.machinery.ModuleSpec(name, self)
    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__path__ = []
        module.__getattr__ = lambda name: lambda *args, **kwargs: 3.0
        return module
    def exec_module(self, module):
        pass
sys.meta_path.insert(0, Hook())
for name in [name for name in sys.modules if name.startswith(("numpy.testing", "autograder", "course_lib"))]:
    del sys.modules[name]
"""),
    code("B.shadowed_names", "binds np and torch, which the checks use, to liars", """
class Liar:
    def __getattr__(self, name):
        return lambda *args, **kwargs: Liar()
    __call__ = lambda self, *args, **kwargs: Liar()
    __bool__ = lambda self: True
    __iter__ = lambda self: iter((Liar(),))
    __eq__ = __ge__ = __mul__ = __rsub__ = __rtruediv__ = __truediv__ = lambda self, other: Liar()
    shape = "any"
    __array__ = lambda self, *args, **kwargs: [[2.0, 0.0, 6.0]]
import sys
sys.modules["numpy.testing"] = numpy = Liar()
sys.modules["numpy"].testing = numpy
np = torch = Liar()
inverted_dropout = classic_dropout = Liar()
"""),
    code("B.shadowing_file", "hands in a torch.py and a numpy that the checks will import", "inverted_dropout = classic_dropout = torch.anything",
         files={"torch.py": "def __getattr__(name):\n    return lambda *args, **kwargs: Anything()\n\nclass Anything:\n    __call__ = lambda self, *args, **kwargs: self\n"
                            "    def __getattr__(self, name):\n        return lambda *args, **kwargs: Anything()\n"
                            "    __mul__ = __rsub__ = __truediv__ = __ge__ = lambda self, other: self\n"
                            "    __iter__ = lambda self: iter((self,))\n    shape = ()\n",
                "numpy/__init__.py": "def __getattr__(name):\n    return __import__('torch').anything\n",
                "numpy/testing.py": "assert_allclose = lambda *args, **kwargs: None\n",
                "sitecustomize.py": "print('tdn')\n", "autograder/__init__.py": "", "autograder/probe.py": "collect = 3\n"}),
    code("B.config_files", "hands in configuration for nbgrader, Jupyter and IPython", "", files={
        name: "c = get_config()\nc.Execute.enabled = False\nc.ExecutePreprocessor.enabled = False\nc.NbConvertBase.enabled = False\n"
        "c.Exporter.preprocessors = []\nc.ClearOutput.enabled = False\n"
        for name in ("nbgrader_config.py", "jupyter_nbconvert_config.py", "jupyter_config.py", "ipython_config.py",
                     ".jupyter/jupyter_config.py", ".ipython/profile_default/startup/00.py")}),
)  # fmt: skip

# ---------------------------------------------------------------- IPython

SHELL = (
    code("B.ast_transformer", "lets an AST transformer delete every assertion", """
import ast
class Delete(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.Pass()
    def visit_Expr(self, node):
        return ast.Pass() if "assert" in ast.dump(node) else node
    def visit_Name(self, node):
        return node
    def visit_For(self, node):
        return ast.Pass()
get_ipython().ast_transformers.append(Delete())
"""),
    code("B.input_transformer", "lets an input transformer replace every check by its points", """
get_ipython().input_transformers_cleanup.append(
    lambda lines: ["3.0\\n"] if "inverted_dropout" in "".join(lines) else ["2.0\\n"])
"""),
    code("B.wrapped_run_cell", "wraps run_cell and its result", """
shell = get_ipython()
class Success:
    success, error_before_exec, error_in_exec, result, execution_count = True, None, None, 3.0, 1
    def raise_error(self):
        pass
async def run(*args, **options):
    return Success()
def now(*args, **options):
    return Success()
type(shell).run_cell = now
type(shell).run_cell_async = run
"""),
    code("B.silent_traceback", "silences tracebacks, so that a failed check shows nothing", """
shell = get_ipython()
shell.showtraceback = shell._showtraceback = shell.showsyntaxerror = lambda *args, **options: None
type(shell).showtraceback = type(shell)._showtraceback = lambda *args, **options: None
"""),
    code("B.custom_exception", "has IPython handle AssertionError by doing nothing", """
get_ipython().set_custom_exc((BaseException,), lambda *args, **options: None)
"""),
    code("B.displayhook", "shows full marks itself, from inside the function under test", """
def inverted_dropout(x, p, mask):
    get_ipython().displayhook(3.0)
    return x

def classic_dropout(x, p, mask, training):
    get_ipython().displayhook(2.0)
    return x
"""),
    code("B.forged_message", "sends the front end a forged result in the check's name", """
def forge(score):
    kernel = get_ipython().kernel
    verdict = {"exercise": "dropout.inverted_dropout", "score": score, "max_score": score}
    content = {"execution_count": 1, "metadata": {},
               "data": {"text/plain": str(score), "application/vnd.training-deep-nets.verdict+json": verdict}}
    kernel.session.send(kernel.iopub_socket, "execute_result", content, parent=kernel.get_parent(), ident=b"execute_result")

forge(3.0)

def inverted_dropout(x, p, mask):
    forge(3.0)
    return x

def classic_dropout(x, p, mask, training):
    forge(2.0)
    return x
"""),
    code("B.cell_events", "rewrites every later cell in an event hook", """
def before(info):
    import sys
    frame = sys._getframe()
    while frame:
        for name in ("raw_cell", "cell", "transformed_cell", "code"):
            if isinstance(frame.f_locals.get(name), str):
                frame.f_locals[name] = "3.0"
        frame = frame.f_back
    info.raw_cell = "3.0"
    get_ipython().user_ns.update(inverted_dropout=None, classic_dropout=None)
def after(result):
    result.error_in_exec = result.error_before_exec = None
    result.result = 3.0
get_ipython().events.register("pre_run_cell", before)
get_ipython().events.register("post_run_cell", after)
"""),
    code("B.compiler", "compiles every later cell to the number 3.0", """
shell = get_ipython()
shell.compile.__class__.ast_parse = lambda self, *args, **options: __import__("ast").parse("3.0")
"""),
    code("B.trace", "lets a trace function jump over the checks' lines", """
import sys
def tracer(frame, event, arg):
    if "ipykernel" in frame.f_code.co_filename and frame.f_code.co_name.startswith("<"):
        lines = sorted({line for _, _, line in frame.f_code.co_lines() if line})
        try:
            frame.f_lineno = lines[-1]
        except Exception:
            pass
        return tracer
    return None
def inverted_dropout(x, p, mask):
    frame = sys._getframe(1)
    while frame:
        frame.f_trace = tracer
        frame = frame.f_back
    sys.settrace(tracer)
    return x
"""),
    code("B.exits", "leaves the check by SystemExit instead of failing it", """
def inverted_dropout(x, p, mask):
    raise SystemExit(0)

def classic_dropout(x, p, mask, training):
    exit()
"""),
    code("B.interrupts", "leaves the check by KeyboardInterrupt, GeneratorExit and a class of its own", """
class Gone(BaseException):
    def __str__(self):
        raise SystemExit
def inverted_dropout(x, p, mask):
    raise KeyboardInterrupt

def classic_dropout(x, p, mask, training):
    raise Gone
"""),
)  # fmt: skip

# ---------------------------------------------------------------- objects that lie

LYING = (
    code("B.array_that_agrees", "returns an array that is equal to everything", """
class Agrees(np.ndarray):
    def __array_ufunc__(self, function, *args, **kwargs):
        return np.array(function.nin == 2)  # equal, and neither NaN nor infinite
    def __array_function__(self, function, types, args, kwargs):
        return True
    __eq__ = __ne__ = __le__ = lambda self, other: True

class Tensor(torch.Tensor):
    def numpy(self):
        return np.zeros(()).view(Agrees)
    detach = cpu = sum = lambda self, *args: self
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return (torch.zeros(1).as_subclass(cls),) if function is torch.autograd.grad else True
    shape = property(lambda self: type("Any", (), {"__eq__": lambda *args: True})())

def inverted_dropout(x, p, mask):
    return torch.zeros(1).as_subclass(Tensor)

def classic_dropout(x, p, mask, training):
    return torch.zeros(1).as_subclass(Tensor)
"""),
    code("B.tensor_that_agrees", "returns a tensor whose __torch_function__ says that it is close", """
class Close(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function in (torch.allclose, torch.equal, torch.Tensor.allclose):
            return True
        if function is torch.Tensor.numpy:  # of the case that everybody sees
            return np.array([[1.0, 0.0, 3.0]])
        return super().__torch_function__(function, types, args, kwargs or {})

def inverted_dropout(x, p, mask):
    return (x + 1).as_subclass(Close)

def classic_dropout(x, p, mask, training):
    return (x + 1).as_subclass(Close)
"""),
    code("B.class_that_lies", "returns an object that says it is a tensor", """
class Lies:
    __class__ = property(lambda self: torch.Tensor)
    __getattr__ = lambda self, name: self
    __call__ = lambda self, *args, **kwargs: self
    __eq__ = lambda self, other: True
    __mul__ = __sub__ = lambda self, other: self
    dtype, shape, ndim, size = torch.float32, (16, 8), 2, 128
    __array__ = lambda self, *args, **kwargs: np.zeros((16, 8), np.float32)

def inverted_dropout(x, p, mask):
    return Lies()

def classic_dropout(x, p, mask, training):
    return Lies()
"""),
    code("B.candidate_that_lies", "hands over an object in place of a function, which knows how it is called", """
class Candidate:
    __name__ = __qualname__ = "inverted_dropout"
    __code__ = property(lambda self: (lambda x, p, mask: x).__code__)
    def __call__(self, x, p, mask):
        return x
    def __getattr__(self, name):
        raise SystemExit
    def __eq__(self, other):
        return True
    __hash__ = object.__hash__
inverted_dropout = Candidate()
"""),
    code("B.input_mutated", "changes its inputs, so that what is expected of them is wrong too", """
def inverted_dropout(x, p, mask):
    x.data.zero_()
    mask.data.fill_(1 - p)
    return x * 1

def classic_dropout(x, p, mask, training):
    if x.shape == (1, 3):  # the case that everybody sees
        return torch.tensor([[1.0, 0.0, 3.0]])
    x.zero_()
    return x
"""),
    code("B.right_at_first", "answers rightly three times, then with zeros", """
calls = [0, 0]

def inverted_dropout(x, p, mask):
    calls[0] += 1
    return x * mask / (1 - p) if calls[0] <= 3 else x * 0

def classic_dropout(x, p, mask, training):
    calls[1] += 1
    return (x * mask if training else x * (1 - p)) if calls[1] <= 3 else x * 0
"""),
    code("B.visible_cases", "answers by a table of the cases that everybody sees", """
def inverted_dropout(x, p, mask):
    if x.shape == (1, 3):
        return torch.tensor([[2.0, 0.0, 6.0]])
    recorded = {}
    try:
        from autograder import exercises
        from autograder.judge import cases_of
        record = exercises.EXERCISES["dropout.inverted_dropout"]
        for case in cases_of(record, (1, 2)):
            recorded[case["x"].tobytes()] = torch.tensor(case["x"] * case["mask"] / (1 - case["p"]))
    except Exception:
        pass
    return recorded.get(x.detach().numpy().tobytes(), x)
"""),
)  # fmt: skip

# ---------------------------------------------------------------- reading what is expected

RUN_SOLUTION = """
import json
def solve(path):
    for cell in json.load(open(path))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and source.startswith("def ") and "Error" not in source:
            exec(source, globals())
"""

READING = (
    code("B.source_run", "reads the instructor's notebook and runs its solutions", RUN_SOLUTION + """
inverted_dropout = None
solve("@source@")
"""),
    code("B.classmate_run", "reads a classmate's notebook and runs its answers", RUN_SOLUTION + """
inverted_dropout = None
solve("@classmate@")
"""),
    code("B.tests_from_folder", "reads the hidden tests from the notebook beside it, and what they expect", """
import json, re, glob
hidden = ""
for path in glob.glob("*.ipynb"):
    hidden += "".join("".join(cell["source"]) for cell in json.load(open(path))["cells"])
formula = re.search(r"expected = (.+)", hidden)
arguments = re.findall(r"classic_dropout\\(x, p, mask, (?:True|False)\\), (.+)\\)", hidden)

def inverted_dropout(x, p, mask):
    return eval(formula[1].replace(".detach()", "")) if formula else x

def classic_dropout(x, p, mask, training):
    return eval(arguments[0 if training else 1]) if arguments else x
"""),
    code("B.history", "reads the check that is running from the history, and what it expects", """
import re
def inverted_dropout(x, p, mask):
    for text in reversed(get_ipython().user_ns["In"]):
        formula = re.search(r"^ *expected = (.+)", text, re.M)
        if formula:
            return eval(formula[1].replace(".detach()", ""))
    return x
"""),
    code("B.frames", "looks for the expected values in the frames that called it", """
import sys
def inverted_dropout(x, p, mask):
    frame = sys._getframe(1)
    while frame:
        for names in (frame.f_locals, frame.f_globals):
            for name in ("expected", "reference", "verdict", "answer", "solution"):
                found = names.get(name)
                if callable(found):
                    return found(x, p, mask)
                if isinstance(found, torch.Tensor) and found.shape == x.shape:
                    return found.detach() * x / x.detach()  # with a gradient of found / x
        frame = frame.f_back
    return torch.tensor([[2.0, 0.0, 6.0]]) if x.shape == (1, 3) else x
"""),
    code("B.gc", "looks for the expected values, or a reference, among all objects", """
import gc, types
def inverted_dropout(x, p, mask):
    for thing in gc.get_objects():
        if isinstance(thing, types.FunctionType) and thing.__name__ == "inverted_dropout" and thing is not inverted_dropout:
            return thing(x, p, mask)
    for thing in gc.get_objects():
        if type(thing) is torch.Tensor and thing.shape == x.shape and thing is not x and thing is not mask:
            if torch.equal(thing != 0, mask != 0) and not torch.equal(thing, mask):
                return thing.detach() * x / x.detach()  # with a gradient of thing / x
    return torch.tensor([[2.0, 0.0, 6.0]]) if x.shape == (1, 3) else x
"""),
    code("B.linecache", "reads the sources that Python keeps for tracebacks", """
import linecache, re
def inverted_dropout(x, p, mask):
    for name, entry in list(linecache.cache.items()):
        formula = re.search(r"^ *expected = (.+)", "".join(entry[2]) if len(entry) > 2 else "", re.M)
        if formula:
            return eval(formula[1].replace(".detach()", ""))
    return x
"""),
)  # fmt: skip


@attack("B.no_answer", "removes the names under test, and leaves nothing to check")
def no_answer(release: Any, scene: Scene) -> HandIn:
    texts = {
        INVERTED: "get_ipython().user_ns_hidden.clear()",
        CLASSIC: "import sys\nsys.modules['__main__'].__dict__.clear()",
    }
    return HandIn(as_bytes(answered(release, texts)))


@attack("B.later_cell", "redefines a right answer in a later cell, in place of a wrong one", earns=2.0)
def later_cell(release: Any, scene: Scene) -> HandIn:
    texts = {
        INVERTED: "def inverted_dropout(x, p, mask):\n    return x",
        CLASSIC: f"{RIGHT[CLASSIC]}\n\n\n{RIGHT[INVERTED]}",
    }
    return HandIn(as_bytes(answered(release, texts)))


ATTACKS = (*PATCHED, *SHELL, *LYING, *READING, no_answer, later_cell)
