"""For a named processor the file does not depend on the machine that compiles: neither on the variants of the C
library's functions, nor on the kernels of BLAS, nor on the number of threads."""

import os
import platform
import subprocess
import sys

import pytest
from conftest import ROOT

pytest.importorskip("onnx")

# What an old processor has: the libraries choose their oldest variants. Their results differ in last bits.
OLD = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX2,-AVX,-FMA,-FMA4,-AVX2_Usable,-FMA_Usable",
       "OPENBLAS_CORETYPE": "Nehalem"}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variables are those of x86-64")
@pytest.mark.parametrize("recipe", ["f32", "w4a8", "quarot-w4a8", "e8p"])
def test_old_libraries_give_the_same_file(quench_driver, tmp_path, recipe):
    subprocess.run([sys.executable, str(ROOT / "utils" / "make-decoder"), str(tmp_path), "--layers", "1", "--width", "96",
                    "--hidden", "160", "--heads", "4", "--kv-heads", "2", "--vocabulary", "200"],
                   check=True, capture_output=True)
    files = []
    for name, environment, threads in (("new", {}, 2), ("old", OLD, 1)):
        files.append(tmp_path / f"{name}.so")
        quench_driver("compile", tmp_path / "model.onnx", "-o", files[-1], "--recipe", recipe, "--cpu", "x86-64-v4",
                      "--threads", threads, env={**os.environ, **environment})
    assert files[0].read_bytes() == files[1].read_bytes()
