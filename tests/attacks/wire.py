"""D. The boundary to the grader: a kernel that answers the probe's requests itself, or not, or without end.

Only our grader has this boundary. Its cases are hidden and its judge stands outside, so whoever forges an answer must
have computed the right one; what is tried here is to confuse, flood or break the reader.
"""

from __future__ import annotations

from .attack import INVERTED, WORTH, code

__all__ = ["ATTACKS"]

# `answer_with(f)`: from now on this kernel sends what f(request, id, header) yields, in place of evidence.
PRELUDE = """
import hashlib, json, struct, time
kernel = get_ipython().kernel
manager = kernel.comm_manager
TARGET = "training_deep_nets.probe"

def framed(header, payload=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + payload

def of(data):
    start = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:start]), data[start:]

def evidence(id, header, outcomes, payload=b"", **more):
    return framed({"request": id, "exercise": header["exercise"], "forbidden": [], "outcomes": outcomes, **more}, payload)

def answer_with(make, buffers=None):
    def on_request(comm, message):
        request = bytes(message["buffers"][0])
        id = hashlib.sha256(request).hexdigest()[:32]
        for data in make(request, id, of(request)[0]):
            comm.send({}, buffers=[data] if buffers is None else buffers(data))
    class Targets(dict):
        __setitem__ = lambda self, name, function: None
        get = lambda self, name, default=None: on_request
        __getitem__ = lambda self, name: on_request
        __contains__ = lambda self, name: True
    manager.targets = Targets({TARGET: on_request})

def blank(header):
    return [{"arrays": {}, "failure": None} for _ in header["cases"]]

def shaped(header, shape, dtype="float32"):
    names = ("output", "gradient", "input left as it was", "output in training", "output at test")
    return [{"arrays": {name: {"dtype": dtype, "shape": shape} for name in names}, "failure": None} for _ in header["cases"]]
"""


def wire(name: str, tries: str, source: str, **options):
    return code(f"D.wire_{name}", tries, PRELUDE + source, only="ours", **options)


HONEST = """
def arrays_of(request, header):
    _, rest = of(request)
    for case in header["cases"]:
        found = dict(case["values"])
        for name, spec in case["arrays"].items():
            size = int(np.prod(spec["shape"])) * np.dtype(spec["dtype"]).itemsize
            found[name] = np.frombuffer(rest[:size], spec["dtype"]).reshape(spec["shape"])
            rest = rest[size:]
        yield found

def make(request, id, header):
    outcomes, payload = [], b""
    for case in arrays_of(request, header):
        x, p, mask = case["x"], case["p"], case["mask"]
        slope = torch.linspace(-1, 2, x.size, dtype=torch.from_numpy(x.copy()).dtype).numpy().reshape(x.shape)
        keep = x.dtype.type(1 - p)
        results = {"output": x * mask / keep, "gradient": slope * mask / keep, "input left as it was": x}
        outcomes.append({"failure": None, "arrays": {}})
        for name, value in results.items():
            outcomes[-1]["arrays"][name] = {"dtype": x.dtype.name, "shape": list(x.shape)}
            payload += np.ascontiguousarray(value.astype(x.dtype)).tobytes()
    yield evidence(id, header, outcomes, payload)
"""

FORGED = (
    wire("by_hand", "answers the requests by hand, with right values: it has solved the exercise", HONEST + "answer_with(make)\n",
         earns=WORTH[INVERTED], honest=True),
    wire("wrong_id", "answers by hand under another request's id", HONEST + """
answer_with(lambda request, id, header: make(request, "0" * 32, header))
"""),
    wire("other_exercise", "answers by hand in the name of the other exercise", HONEST + """
answer_with(lambda request, id, header: make(request, id, {**header, "exercise": "dropout.classic_dropout"}))
"""),
    wire("path", "answers in the name of an exercise that is a path", """
answer_with(lambda request, id, header: [evidence(id, {"exercise": "../../tdn-left"}, blank(header))])
"""),
    wire("echo", "sends the request back", "answer_with(lambda request, id, header: [request])"),
    wire("verdict", "sends a verdict with full marks beside empty outcomes", """
answer_with(lambda request, id, header: [evidence(id, header, blank(header), score=3.0, max_score=3.0, passed=True,
            verdict={"score": 3.0}, criteria=[{"name": "output", "points": 2, "passed": True}])])
"""),
    wire("no_outcomes", "sends evidence on no case at all", """
answer_with(lambda request, id, header: [evidence(id, header, [])])
"""),
    wire("first_case", "sends the right outcome of one case only", HONEST + """
def first(request, id, header):
    (data,) = make(request, id, header)
    told, payload = of(data)
    size = sum(int(np.prod(s["shape"])) * 4 for s in told["outcomes"][0]["arrays"].values())
    yield framed({**told, "outcomes": told["outcomes"][:1]}, payload[:size])
answer_with(first)
"""),
    wire("fewer_names", "leaves out what it can't compute", HONEST + """
def only_unchanged(request, id, header):
    (data,) = make(request, id, header)
    told, payload = of(data)
    outcomes, kept = [], b""
    for case, outcome in zip(arrays_of(request, header), told["outcomes"]):
        outcomes.append({"failure": None, "arrays": {"input left as it was": outcome["arrays"]["input left as it was"]}})
        kept += np.ascontiguousarray(case["x"]).tobytes()
    yield framed({**told, "outcomes": outcomes}, kept)
answer_with(only_unchanged)
"""),
    wire("replayed", "records its answer to one exercise and sends it for the other", """
recorded = []
def make(request, id, header):
    recorded.append(evidence(id, header, blank(header)))
    return [recorded[0]]
answer_with(make)
"""),
    wire("unasked", "sends answers before it is asked, from its own cell", """
from comm import create_comm
for number in range(50):
    comm = create_comm(target_name=TARGET, comm_id=f"{number:032x}")
    comm.send({}, buffers=[evidence("0" * 32, {"exercise": "dropout.inverted_dropout"}, [])])
    kernel.session.send(kernel.iopub_socket, "comm_msg", {"comm_id": f"{number:032x}", "data": {}}, buffers=[b"x" * 100])
"""),
    wire("twice", "answers twice, then closes, then answers again", HONEST + """
def many(request, id, header):
    yield evidence(id, header, blank(header))
    yield from make(request, id, header)
    yield from make(request, id, header)
answer_with(many)
"""),
    wire("other_comm", "answers through other comms, and other messages' parents", """
def on_request(comm, message):
    request = bytes(message["buffers"][0])
    id = hashlib.sha256(request).hexdigest()[:32]
    data = evidence(id, of(request)[0], blank(of(request)[0]))
    for name in ("comm_msg", "comm_open", "comm_close", "execute_result", "stream", "status", "error", "nonsense"):
        content = {"comm_id": "f" * 32, "target_name": TARGET, "data": {}, "execution_state": "idle", "name": 3}
        kernel.session.send(kernel.iopub_socket, name, content, parent={"header": {"msg_id": 7}}, buffers=[data])
answer_with(lambda *args: [])
manager.targets = {TARGET: on_request}
"""),
)  # fmt: skip

BROKEN = (
    wire("no_target", "removes the target that requests go to", "manager.targets.clear()\nmanager.register_target = lambda *args: None"),
    wire("no_manager", "removes the machinery of comms", """
kernel.comm_manager = None
for handlers in (kernel.shell_handlers, kernel.control_handlers):
    for name in [name for name in handlers if name.startswith("comm")]:
        del handlers[name]
"""),
    wire("silent", "never answers", "answer_with(lambda *args: [])"),
    wire("slow", "answers after a long sleep", "answer_with(lambda *args: time.sleep(60) or [])"),
    wire("dies", "dies when it is asked", "answer_with(lambda *args: __import__('os')._exit(0))"),
    wire("raises", "raises SystemExit and exceptions of its own when it is asked", """
def make(*args):
    raise SystemExit
answer_with(make)
"""),
    wire("endless", "answers without end", """
def make(request, id, header):
    end, put_out = time.time() + 20, 0
    while time.time() < end and put_out < 300_000_000:
        yield b"x" * 100_000
        put_out += 100_000
answer_with(make)
"""),
    wire("endless_small", "sends small wrong answers without end", """
def make(request, id, header):
    end = time.time() + 20
    for _ in range(300_000):
        if time.time() > end:
            break
        yield evidence("1" * 32, header, [])
answer_with(make)
"""),
    wire("endless_comms", "opens 20,000 comms", """
end = time.time() + 20
for number in range(20_000):
    if time.time() > end:
        break
    kernel.session.send(kernel.iopub_socket, "comm_open", {"comm_id": f"{number:032x}", "target_name": TARGET, "data": {}})
"""),
    wire("huge", "answers with 200 MB", "answer_with(lambda *args: [bytes(200_000_000)])"),
    wire("huge_header", "says that its header has 2**63 bytes", """
answer_with(lambda *args: [struct.pack("<Q", 2**63) + b"{}"])
"""),
    wire("deep", "answers with JSON that nests 1,000,000 lists", "answer_with(lambda *args: [framed(b'[' * 1_000_000 + b']' * 1_000_000)])"),
    wire("deep_outcomes", "nests 100,000 objects where a failure should stand", """
def make(request, id, header):
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    text = json.dumps({"request": id, "exercise": header["exercise"], "forbidden": [], "outcomes": "HERE"}).encode()
    yield framed(text.replace(b'"HERE"', b'[{"arrays": {}, "failure": ' + deep + b"}]"))
answer_with(make)
"""),
    wire("many_outcomes", "answers with 300,000 outcomes", """
answer_with(lambda request, id, header: [evidence(id, header, [{"arrays": {}, "failure": None}] * 100_000)])
"""),
    wire("huge_number", "answers with numbers of 100,000 digits, NaN and infinity in the header", """
def make(request, id, header):
    text = json.dumps({"request": id, "exercise": header["exercise"], "forbidden": [], "outcomes": "HERE"}).encode()
    yield framed(text.replace(b'"HERE"', b'[{"arrays": {"output": {"dtype": "float32", "shape": [' + b"9" * 100_000 + b", NaN, Infinity]}}}]"))
answer_with(make)
"""),
    wire("shapes", "answers with absurd shapes", """
shapes = [[-1], [2**62, 2**62], [0, 2**62], [1] * 40, ["8"], "8", None, [True], [1e300], {"0": 1}]
def make(request, id, header):
    outcomes = shaped(header, [])
    for outcome, shape in zip(outcomes, shapes):
        for spec in outcome["arrays"].values():
            spec["shape"] = shape
    yield evidence(id, header, outcomes, bytes(10_000))
answer_with(make)
"""),
    wire("no_elements", "answers with arrays of no elements and 2**62 rows", """
answer_with(lambda request, id, header: [evidence(id, header, shaped(header, [2**62, 0]))])
"""),
    wire("dtypes", "answers with dtypes that hold objects, records and text", """
def make(request, id, header):
    outcomes = shaped(header, [1])
    for outcome, dtype in zip(outcomes, ("object", "O", "V8", "U999999999", "float128", "complex64", "datetime64[s]", ["f4"])):
        for spec in outcome["arrays"].values():
            spec["dtype"] = dtype
    yield evidence(id, header, outcomes, bytes(10_000))
answer_with(make)
"""),
    wire("pickle", "answers with a pickle and a numpy file of objects", """
import os, pickle
class Bomb:
    def __reduce__(self):
        return os.system, ("touch /tmp/tdn-left",)
answer_with(lambda *args: [pickle.dumps(Bomb()), b"\\x93NUMPY\\x01\\x00" + pickle.dumps(Bomb())])
"""),
    wire("nan", "answers with NaN of the right shapes", """
def make(request, id, header):
    outcomes, payload = [], b""
    for case in header["cases"]:
        spec = case["arrays"]["x"]
        outcomes.append({"arrays": {name: spec for name in ("output", "gradient")}, "failure": None})
        payload += 2 * np.full(spec["shape"], np.nan, spec["dtype"]).tobytes()
    yield evidence(id, header, outcomes, payload)
answer_with(make)
"""),
    wire("buffers", "answers with no buffers, empty ones, and 5,000 of them", """
answer_with(lambda *args: [b"", b"x"], buffers=lambda data: [data] * 5_000 if data else [])
"""),
    wire("markup", "puts markup and half characters into names and failures", """
markup = "<script>window.tdnPwned = 1</script><img src=x onerror=tdnPwned> [a](javascript:tdnPwned) \\ud800 \\0"
def make(request, id, header):
    failure = {"kind": "raised", "type": markup, "message": markup, "line": markup}
    yield evidence(id, header, [{"arrays": {markup: {"text": markup}}, "failure": failure} for _ in header["cases"]])
answer_with(make)
"""),
    wire("unknown_failure", "gives failures of unknown kinds and wrong types", """
def make(request, id, header):
    failures = [{"kind": 3, "type": [], "message": {}, "line": None}, {"kind": "passed"}, 7, "raised", [], True]
    yield evidence(id, header, [{"arrays": {}, "failure": f} for f in (failures * 9)[: len(header["cases"])]])
answer_with(make)
"""),
    wire("patched", "patches the probe's own modules in its kernel", """
import sys
for name, module in list(sys.modules.items()):
    if name.startswith("autograder.probe"):
        for attribute in ("gather", "encode", "to_plain", "watched", "forbidden_in_source", "decode_request", "answer"):
            if hasattr(module, attribute):
                setattr(module, attribute, lambda *args, **kwargs: b"")
"""),
    wire("kernel_messages", "answers in the kernel's own name: idle, shut down, replies, input requests, updates", """
def send(socket, name, content, parent):
    try:
        kernel.session.send(socket, name, content, parent=parent)
    except Exception:
        pass
def make(request, id, header):
    parent = kernel.get_parent()
    for parent in (parent, {}, {"header": {}}):
        send(kernel.iopub_socket, "status", {"execution_state": "idle"}, parent)
        send(kernel.iopub_socket, "status", {"execution_state": ["dead"]}, parent)
        send(kernel.iopub_socket, "shutdown_reply", {"restart": True}, parent)
        send(kernel.iopub_socket, "update_display_data", {"data": {"text/plain": "3.0"}, "transient": {"display_id": 1}}, parent)
        send(kernel.iopub_socket, "execute_result", {"data": 7}, parent)
        send(kernel.iopub_socket, "error", {"ename": {}, "evalue": [], "traceback": 3}, parent)
        send(kernel.iopub_socket, "stream", {"name": "stdout", "text": {"a": 1}}, parent)
        send(kernel.iopub_socket, "clear_output", {}, parent)
        send(kernel.shell_stream if hasattr(kernel, "shell_stream") else kernel.iopub_socket, "execute_reply", {"status": "ok"}, parent)
    return []
make(b"", "", {})
answer_with(make)
"""),
    wire("raw_frames", "writes raw frames to the kernel's sockets", """
for frames in ([b""], [b"<IDS|MSG>"], [b"x"] * 50, [b"<IDS|MSG>", b"0" * 64, b"{", b"}", b"\\xff", b""], [b"a", b"<IDS|MSG>", b"", b"{}", b"{}", b"{}", b"{}"]):
    for name in ("iopub_socket", "shell_socket", "stdin_socket"):
        socket = getattr(kernel, name, None)
        try:
            socket.send_multipart(frames)
        except Exception:
            pass
"""),
    wire("asks_back", "asks the grader for input", """
def inverted_dropout(x, p, mask):
    return input("the answer, please ")
kernel._allow_stdin = True
try:
    print(input("the answer, please "))
except Exception:
    pass
"""),
)  # fmt: skip

# ---------------------------------------------------------------- the reference, which the course's package holds

BORROWED = (
    code("D.reference_called", "calls the reference that the course's package holds", """
def inverted_dropout(x, p, mask):
    from course_lib.dropout import inverted_dropout
    return inverted_dropout(x, p, mask)
""", only="ours"),
    code("D.reference_bound", "binds the reference before anybody watches, under a name that no text shows", """
import importlib
held = vars(importlib.import_module("course" + "_lib." + "dro" + "pout"))["inverted" + "_dropout"]
def inverted_dropout(x, p, mask, f=held):
    return f(x, p, mask)
""", only="ours"),
    code("D.reference_unwatched", "switches off the watch for forbidden names, and calls the reference through a name that no text shows", """
import contextlib, importlib, sys
for name, module in list(sys.modules.items()):
    if name.startswith("autograder.probe"):
        if hasattr(module, "watched"):
            module.watched, module.forbidden_in_source = (lambda *args: contextlib.nullcontext()), (lambda *args: ())
held = vars(importlib.import_module("course" + "_lib." + "dro" + "pout"))["inverted" + "_dropout"]
def inverted_dropout(x, p, mask):
    return held(x, p, mask)
""", only="ours"),
    code("D.reference_of_record", "takes the reference out of the exercise's record", """
import importlib
records = importlib.import_module("auto" + "grader.exercises").EXERCISES
inverted_dropout = records["dropout.inverted_dropout"].reference
""", only="ours"),
    code("D.variant_of_record", "takes a right variant out of the exercise's record", """
import importlib
records = importlib.import_module("auto" + "grader.exercises").EXERCISES
borrowed = records["dropout.inverted_dropout"].variants[0].right
def inverted_dropout(x, p, mask):
    return borrowed(x, p, mask)
""", only="ours"),
    code("D.reference_by_hand", "answers the requests itself, with the course's reference and its own judge", PRELUDE + """
import importlib
def make(request, id, header):
    collect = importlib.import_module("auto" + "grader.probe")
    record = importlib.import_module("auto" + "grader.exercises").EXERCISES[header["exercise"]]
    asked = collect.decode_request(request)
    yield collect.encode(collect.collect(record, record.reference, asked.cases, trusted=True), id)
answer_with(make)
""", only="ours"),
    code("D.source_of_package", "reads the course's files from the disk and runs them under other names", """
import importlib.util, sys, glob, re
def find():
    for folder in [*sys.path, *glob.glob("/home/*"), *glob.glob("/usr/lib/python3*/site-packages")]:
        for path in glob.glob(f"{folder}/course_lib/dropout.py"):
            return open(path).read()
    return ""
scope = {}
exec(find().replace("from . import", "# ").replace("from .", "# from ."), scope)
inverted_dropout = scope["inverted_dropout"]
""", only="ours"),
)  # fmt: skip

ATTACKS = (*FORGED, *BROKEN, *BORROWED)
