"""A PostgreSQL server of the tests' own, in a temporary folder, on the loopback interface.

    with server() as address:
        config = f'c.CourseDirectory.db_url = "{address("grades")}"'

Skips the test, saying why, where Debian's package or psycopg is missing.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

USER, PASSWORD = "course", "not-to-be-shown"


def _programs() -> Path:
    pytest.importorskip("psycopg", reason="needs psycopg: pip install 'training-deep-nets[postgres]'")
    on_path = shutil.which("initdb")
    found = [Path(on_path).resolve().parent] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.skip("needs PostgreSQL's server: apt-get install postgresql")
    return found[-1]


@contextmanager
def server() -> Iterator[Callable[[str], str]]:
    """A server, as a function that makes a database and returns its address."""
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="course-postgres-"))
    ordinary: list[str] = []
    if os.geteuid() == 0:  # which PostgreSQL refuses to run as
        folder.chmod(0o755)
        ordinary = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        os.chown(folder, 65534, 65534)
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(folder)}

    def run(program: str, *arguments: str, secret: bool = False) -> None:
        given = {**environment, "PGPASSWORD": PASSWORD} if secret else environment
        command = [*ordinary, str(programs / program), *arguments]
        done = subprocess.run(command, env=given, cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr

    (folder / "password").write_text(PASSWORD)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    data = str(folder / "data")
    try:
        password = f"--pwfile={folder / 'password'}"
        run("initdb", "--no-sync", "-D", data, "-U", USER, password, "--auth=scram-sha-256", "--encoding=UTF8")
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "-D", data, "-l", str(folder / "log"), "-o", options, "-w", "start")

        def address(name: str) -> str:
            run("createdb", "-h", "127.0.0.1", "-p", port, "-U", USER, name, secret=True)
            return f"postgresql+psycopg://{USER}:{PASSWORD}@127.0.0.1:{port}/{name}"

        try:
            yield address
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
