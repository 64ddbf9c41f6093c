"""Kernels that start warm in the sandbox: nothing is lost, nothing is left behind, and none knows of another."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from boxed import answer_in, kernel
from jupyter_client.provisioning import KernelProvisionerFactory
from nbclient import NotebookClient

from autograder.provisioner import SandboxProvisioner, folder, house, start_kernel, warm, why_ended
from autograder.sandbox import SandboxError, Walls, survey

pytestmark = pytest.mark.skipif(
    not all(guarantee.holds for guarantee in survey() if guarantee.required), reason="no sandbox here"
)
BOTH = pytest.mark.parametrize("is_warm", [True, False], ids=["warm", "cold"])


@pytest.fixture(autouse=True)
def own_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("t")))


def folders() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).iterdir()}


def children(pid: int) -> set[int]:
    """All processes below this one, zombies too."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child} | children(child)
    return found


def gone(pid: int, within: float = 10) -> bool:
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


# ---------------------------------------------------------------- messages


@BOTH
def test_a_message_sent_at_once_is_answered_and_its_output_comes(is_warm: bool) -> None:
    for _ in range(3):
        with kernel(warm=is_warm) as fresh:
            answer = fresh.run("print('a'); 1 + 1")
            assert (answer.text, answer.kinds) == (
                "a\n2",
                ["status", "execute_input", "stream", "execute_result", "status"],
            )


def test_what_was_published_before_anybody_listened_is_kept() -> None:
    async def late() -> list[str]:
        km = await start_kernel()
        try:
            client = km.client()
            client.start_channels(iopub=False, stdin=False, hb=False)
            client.execute("print('early')")
            await client.get_shell_msg(timeout=30)
            client.start_channels(shell=False, stdin=False, hb=False, control=False)
            found = []
            while "early\n" not in found:
                message = await client.get_iopub_msg(timeout=30)
                found.append(message["content"].get("text", message["msg_type"]))
            client.stop_channels()
            return found
        finally:
            await km.shutdown_kernel(now=True)

    found = asyncio.run(late())
    assert (found[0], found[-1]) == ("iopub_welcome", "early\n")


def test_ready_means_that_it_answers() -> None:
    async def ready() -> None:
        km = await start_kernel()
        client = km.client()
        client.start_channels()
        await client.wait_for_ready(timeout=30)
        await km.shutdown_kernel(now=True)
        with pytest.raises(RuntimeError, match="died"):
            await client.wait_for_ready(timeout=30)
        client.stop_channels()

    asyncio.run(ready())


def test_output_of_forked_processes_and_of_c_code_comes_too() -> None:
    with kernel() as fresh:
        in_child = "if not child:\n    print('child', flush=True); os._exit(0)"
        assert fresh.run(f"import os\nchild = os.fork()\n{in_child}\n_ = os.waitpid(child, 0)").text == "child\n"
        assert "typed" in fresh.run("!echo typed").text
        assert (
            "typed"
            in fresh.run("import subprocess; print(subprocess.run(['echo', 'typed'], capture_output=True))").text
        )


def test_a_message_too_large_is_left_out_with_a_word_and_the_rest_comes() -> None:
    with kernel(Walls(output_bytes=2_000_000)) as fresh:
        answer = fresh.run("print('a' * 3_000_000)\nprint('b')\n'c'")
        assert answer.text == "[3 MB of output left out: at most 2 MB may be]\n'c'"
        assert fresh.run("1 + 1").text == "2"


# ---------------------------------------------------------------- life and death


@BOTH
def test_interrupt_stops_the_cell_only(is_warm: bool) -> None:
    with kernel(warm=is_warm) as busy:

        async def interrupted() -> Any:
            sleeps = asyncio.Event()
            code = "x = 5\nimport time\nprint('now', flush=True)\ntime.sleep(60)"
            asking = asyncio.ensure_future(busy.ask(code, on_text=sleeps.set))
            await sleeps.wait()
            await busy.manager.interrupt_kernel()
            return await asking

        assert busy.wait(interrupted()).error.startswith("KeyboardInterrupt")
        assert busy.run("x").text == "5"


def test_shutdown_is_known_as_ours_and_restart_makes_a_new_one() -> None:
    with kernel() as one:
        one.run("x = 5")
        before = one.manager.provisioner.pid
        one.wait(one.manager.restart_kernel(now=True))
        assert one.manager.provisioner.pid != before and gone(before)
        assert one.why == ""
        assert one.run("x").error.startswith("NameError")
    assert why_ended(one.manager) == "the grader ended it"


def test_a_polite_shutdown_works_too() -> None:
    async def polite() -> str:
        km = await start_kernel()
        client = km.client()
        client.start_channels()
        await client.wait_for_ready(timeout=30)
        client.stop_channels()
        await km.shutdown_kernel()
        return why_ended(km)

    assert asyncio.run(polite()) == "it ended itself with exit code 0"


@BOTH
def test_random_numbers_differ_between_kernels(is_warm: bool) -> None:
    code = "import random, numpy, torch; random.random(), numpy.random.rand(), torch.rand(1).item()"
    drawn = []
    for _ in range(2):
        with kernel(warm=is_warm) as fresh:
            drawn.append(eval(fresh.run(code).text))
    assert all(a != b for a, b in zip(*drawn, strict=True))


@BOTH
def test_keras_beside_torch_draws_differently_and_trains(is_warm: bool) -> None:
    code = """
import torch
from course_lib.quiet import load_keras
keras = load_keras()
import numpy as np
net = keras.Sequential([keras.layers.Dense(3)])
net.compile('sgd', 'mse')
net.fit(np.ones((8, 2)), np.ones((8, 3)), verbose=0)
float(keras.random.uniform(()))
"""
    drawn = []
    for _ in range(2):
        with kernel(warm=is_warm) as fresh:
            answer = fresh.run(code)
            assert answer.finished and not answer.error, fresh.why
            drawn.append(float(answer.text))
    assert drawn[0] != drawn[1]


def test_two_kernels_do_not_see_each_other() -> None:
    with kernel() as one, kernel() as two:
        one.run("import socket, os; s = socket.socket(socket.AF_UNIX); s.bind('\\0hello'); s.listen()")
        one.run("open('mine', 'w').write('x'); open('/dev/shm/mine', 'w').write('x')")
        assert two.run("import os; os.path.exists('mine'), os.path.exists('/dev/shm/mine')").text == "(False, False)"
        assert "ConnectionRefused" in two.run("import socket; socket.socket(socket.AF_UNIX).connect('\\0hello')").error
        assert two.run("sorted(n for n in os.listdir('/proc') if n.isdecimal())").text == "['1', '2']"


def test_no_descriptor_is_inherited() -> None:
    with kernel() as fresh:
        code = """
import os
links = [f'/proc/self/fd/{number}' for number in os.listdir('/proc/self/fd')]
{target for link in links if os.path.lexists(link) and (target := os.readlink(link)).startswith('/')}
"""
        assert fresh.run(code).text == "{'/dev/null'}"


# ---------------------------------------------------------------- houses


def test_a_killed_warm_parent_is_replaced_and_its_kernels_live_on() -> None:
    with kernel() as old:
        first = house.warm_house(warm.COURSE).pid
        os.kill(first, signal.SIGKILL)
        with kernel() as new:
            assert new.run("1 + 1").text == "2"
            assert house.warm_house(warm.COURSE).pid != first
        assert old.run("2 + 2").text == "4"


def test_a_preload_that_fails_means_cold_starts_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(warm, "COURSE", ("encodings.mbcs",))  # of Windows
    with kernel() as fresh:
        assert fresh.run("1 + 1").text == "2"
    assert "kernels start cold: importing the course's libraries failed (ImportError" in caplog.text


def test_a_parent_with_threads_refuses_to_fork() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    refusal = warm._threads()
    over.set()
    thread.join()
    assert "threads running" in refusal["error"] and refusal["elsewhere"]


def test_a_wall_that_does_not_stand_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any) -> dict[str, Any]:
        raise SandboxError("kernels can't be kept apart", "buy another machine")

    monkeypatch.setattr(house, "_answer", refuse)
    house.warm_house(warm.COURSE)
    before = len(os.listdir("/proc/self/fd")), folders()
    with pytest.raises(SandboxError, match=r"^kernels can't be kept apart: buy another machine$"):
        asyncio.run(start_kernel())
    assert (len(os.listdir("/proc/self/fd")), folders()) == before


def test_unsafe_is_an_ordinary_kernel() -> None:
    with kernel(unsafe=True) as plain:
        assert plain.run("import os; os.getpid() > 2, os.getuid()").text == str((True, os.getuid()))
        assert plain.why == ""
        assert not plain.run("os._exit(3)").finished
        assert plain.why == "it ended itself with exit code 3"


def test_threads_each_with_a_loop_of_its_own() -> None:
    found: list[str] = []

    def start() -> None:
        with kernel() as fresh:
            found.append(fresh.run("1 + 1").text)

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["2", "2", "2"]


def test_a_daemonic_process_has_a_house_of_its_own() -> None:
    context = multiprocessing.get_context("spawn")
    answers: Any = context.SimpleQueue()
    process = context.Process(target=answer_in, args=(answers, "1 + 1"), daemon=True)
    process.start()
    assert answers.get() == "2"
    process.join()
    answers.close()
    assert process.exitcode == 0
    process.close()


# ---------------------------------------------------------------- nothing is left


GRADER = """
import asyncio, sys, time
from autograder.provisioner import start_kernel, house, warm
async def main():
    km = await start_kernel()
    print(km.provisioner.pid, house.warm_house(warm.COURSE).pid, km.provisioner._folder.path, flush=True)
    time.sleep(60)
asyncio.run(main())
"""


def test_a_killed_grader_leaves_no_process_and_its_folder_is_swept() -> None:
    grader = subprocess.Popen([sys.executable, "-c", GRADER], stdout=subprocess.PIPE, text=True)
    assert grader.stdout
    with grader.stdout:
        keeper, parent, sockets = grader.stdout.readline().split()
    assert Path(sockets).is_dir()
    folder.sweep()
    assert Path(sockets).is_dir()  # somebody uses it
    grader.kill()
    grader.wait()
    assert gone(int(keeper)) and gone(int(parent))
    folder.sweep()
    assert not Path(sockets).exists()


@pytest.mark.slow
def test_a_hundred_kernels_leave_nothing_behind() -> None:
    def one() -> None:
        with kernel() as fresh:
            assert fresh.run("1 + 1").text == "2"

    def held() -> tuple[int, int, set[str], int]:
        parent = house.warm_house(warm.COURSE).pid
        time.sleep(0.2)
        opened = len(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{parent}/fd"))
        return *opened, folders(), len(children(os.getpid())), len(os.listdir("/proc/self/task"))

    one()
    before = held()
    for _ in range(100):
        one()
    assert held() == before


# ---------------------------------------------------------------- stock tools


def test_stock_nbclient_runs_on_it_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    factory = KernelProvisionerFactory.instance()
    entry = type("Entry", (), {"load": staticmethod(lambda: SandboxProvisioner)})
    monkeypatch.setitem(factory.provisioners, "course-sandbox", entry)
    monkeypatch.setattr(factory, "default_provisioner_name", "course-sandbox")
    cells = [nbformat.v4.new_code_cell(source) for source in ("import os; os.getpid(), os.getcwd()", "1 / 0", "2")]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "x"}})
    NotebookClient(notebook, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert notebook.cells[0].outputs[0].data["text/plain"] == "(2, '/home/learner')"
    assert notebook.cells[1].outputs[0].ename == "ZeroDivisionError"
    assert notebook.cells[2].outputs[0].data["text/plain"] == "2"
