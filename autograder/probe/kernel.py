"""Answer the grader's requests inside a learner's kernel.

Nothing here is trusted by the grader: whoever changes it in their own kernel changes only what they hand in. A request
and its answer travel as one binary buffer each over a Jupyter comm, so that neither is code nor printed text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .collect import gather
from .quiet import quiet
from .records import Evidence, Failure, Outcome
from .wire import decode_request, encode, request_id

__all__ = ["TARGET", "answer", "serve"]

TARGET = "training_deep_nets.probe"  # the comm's target name


def answer(data: bytes, namespace: Mapping[str, Any]) -> bytes:
    """The encoded evidence on the request in `data`, with the answer looked up in the learner's namespace."""
    request = decode_request(data)
    scope: dict[str, Any] = {"__name__": "probe"}
    exec(compile(request.probe, f"<probe of {request.exercise}>", "exec"), scope)
    if request.answer in namespace:
        candidate = namespace[request.answer]
        evidence = gather(
            request.exercise, scope[request.probe_name], candidate, request.cases, tuple(request.forbidden)
        )
    else:
        missing = Failure("missing", message=request.answer)
        evidence = Evidence(request.exercise, tuple(Outcome({}, missing) for _ in request.cases))
    return encode(evidence, request_id(data))


def serve() -> None:
    """From now on this kernel answers requests. Raises RuntimeError outside a kernel."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        raise RuntimeError("there is no kernel here to serve requests")

    def on_request(comm: Any, message: Mapping[str, Any]) -> None:
        try:
            with quiet():
                reply = answer(bytes(message["buffers"][0]), shell.user_ns)
        except KeyboardInterrupt:  # time is up: the grader knows, since nothing comes back
            return
        comm.send({}, buffers=[reply])

    shell.kernel.comm_manager.register_target(TARGET, on_request)
