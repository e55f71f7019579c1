"""What `quench run` says of numbers that data may hold and a model does not take."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def binary(tmp_path_factory, quench_driver):
    folder = tmp_path_factory.mktemp("decoder")
    subprocess.run([sys.executable, str(ROOT / "utils" / "make-decoder"), str(folder), "--layers", "2", "--width", "32",
                    "--hidden", "32", "--heads", "2", "--kv-heads", "1", "--vocabulary", "40"],
                   check=True, capture_output=True)
    quench_driver("compile", folder / "model.onnx", "-o", folder / "m.so", "--recipe", "w4a8", "--max-positions", "64")
    return folder / "m.so"


def run(driver, binary, folder, ids, positions):
    values = {"input_ids": np.array([ids]), "position_ids": np.array([positions])}
    arguments = []
    for name, value in values.items():
        np.save(folder / f"{name}.npy", value)
        arguments += ["--input", f"{name}={folder / (name + '.npy')}"]
    return driver("run", binary, *arguments, "--zeros", "--shape", f"attention_mask=1x{len(ids)}", ok=False)


@pytest.mark.parametrize("token", [40, -1, 2**40])
def test_token_outside_of_the_vocabulary(quench_driver, binary, tmp_path, token):
    done = run(quench_driver, binary, tmp_path, [1, token, 3], [0, 1, 2])
    assert done.returncode == 1
    assert "an index is outside of its dimension" in done.stderr and "'input_ids'" in done.stderr


@pytest.mark.parametrize("position", [64, -1, 2**40])
def test_position_outside_of_the_rotary_table(quench_driver, binary, tmp_path, position):
    done = run(quench_driver, binary, tmp_path, [1, 2, 3], [0, position, 2])
    assert done.returncode == 1
    assert "an index is outside of its dimension" in done.stderr and "'position_ids'" in done.stderr


def test_last_index_of_each(quench_driver, binary, tmp_path):
    assert run(quench_driver, binary, tmp_path, [39, 0, 3], [63, 0, 2]).returncode == 0
