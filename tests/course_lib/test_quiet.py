"""Nothing that a C++ library writes may reach a notebook's stderr."""

import os
import subprocess
import sys

import pytest

from course_lib.quiet import silent_descriptor


def test_descriptor_2_is_silent_inside_and_back_afterwards(capfd):
    with silent_descriptor():
        os.write(2, b"from C++")
    os.write(2, b"afterwards")
    assert capfd.readouterr().err == "afterwards"


def test_descriptor_2_comes_back_after_an_error(capfd):
    with pytest.raises(KeyError), silent_descriptor():
        raise KeyError
    os.write(2, b"afterwards")
    assert capfd.readouterr().err == "afterwards"


@pytest.mark.slow
def test_loading_keras_and_using_it_writes_nothing_to_stderr():
    use = "k = load_keras(); k.layers.Dropout(0.5)(k.ops.ones((2, 2)), training=True)"
    code = f"from course_lib.quiet import load_keras; {use}"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stderr == ""
