# The lit suite. lit.site.cfg.py in the build folder says where everything lies and loads this file.
#
# Tools are found through PATH: quench, quench-opt, quench-translate, FileCheck, not, count, split-file.
# Substitutions: %shared (models and data beside the repository), %python, %build, %libdir, %source, %cmake, %cc, %cxx.
# Features: shared, onnxruntime, and what /proc/cpuinfo says: x86, avx2, fma, avx512f, avx512vnni, avx512vbmi ...

import os
import subprocess
import sys

import lit.formats

config.name = "Quench"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test", ".onnxtxt"]
config.excludes = ["Unit", "Python", "Integration", "Inputs"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.join(config.quench_build_dir, "test")

path = [config.quench_tools_dir, config.llvm_tools_dir, os.environ.get("PATH", "")]
config.environment["PATH"] = os.pathsep.join(path)
config.environment["FILECHECK_OPTS"] = "--enable-var-scope"


def first_python():
    """The first Python with onnxruntime, or any, and whether it has it."""
    candidates = [os.environ.get("QUENCH_PYTHON"), config.python,
                  os.path.join(config.quench_build_dir, "venv", "bin", "python"), sys.executable]
    candidates = [python for python in candidates if python and os.path.exists(python)]
    for python in candidates:
        if subprocess.run([python, "-c", "import onnxruntime"], capture_output=True).returncode == 0:
            return python, True
    return candidates[-1], False


def cpu_features():
    """The processor's flags as LLVM spells them (avx512_vnni is avx512vnni there)."""
    features = set()
    try:
        with open("/proc/cpuinfo") as cpuinfo:
            for line in cpuinfo:
                if line.startswith("flags"):
                    features.add("x86")
                    features.update(flag.replace("avx512_", "avx512") for flag in line.split(":")[1].split())
                    break
    except OSError:
        pass
    return {f for f in features if f == "x86" or f.startswith(("avx", "amx", "fma", "gfni"))}


python, has_onnxruntime = first_python()
shared = os.environ.get("QUENCH_SHARED") or os.path.join(config.quench_source_dir, "..", "shared")
config.available_features.update(cpu_features())
if has_onnxruntime:
    config.available_features.add("onnxruntime")
if os.path.isdir(os.path.join(shared, "models")):
    config.available_features.add("shared")

config.substitutions += [
    ("%shared", os.path.normpath(shared)),
    ("%python", python),
    ("%build", config.quench_build_dir),
    ("%libdir", config.quench_lib_dir),
    ("%source", config.quench_source_dir),
    ("%cmake", config.cmake),
    ("%cc", config.c_compiler),
    ("%cxx", config.cxx_compiler),
]
