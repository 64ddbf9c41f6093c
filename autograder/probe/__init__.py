"""Try a learner's object on cases and bring back plain data: the only thing that may cross out of a kernel.

records   what is asked and what came of it, as frozen dataclasses
collect   runs in the process that holds the candidate
watch     notices forbidden calls there
wire      requests and evidence as bytes: a JSON header, a whitelist of dtypes, caps on size; never pickle
kernel    answers requests inside a learner's kernel
"""

from .collect import DTYPES, collect, to_plain
from .records import Evidence, Failure, Outcome, Request, WireError
from .wire import decode, decode_request, encode, encode_request, request_id

__all__ = [
    "DTYPES",
    "Evidence",
    "Failure",
    "Outcome",
    "Request",
    "WireError",
    "collect",
    "decode",
    "decode_request",
    "encode",
    "encode_request",
    "request_id",
    "to_plain",
]
