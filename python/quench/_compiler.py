"""Compiling and evaluating: the package's own `quench` driver, run as a process of its own.

A process, because compiling takes memory of the model's size, which it gives back when it ends.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from ._model import Error


def driver():
    """The path of the `quench` program: QUENCH_DRIVER, the one installed with this package, or the one of the build
    this package lies in (build/python/quench)."""
    package = Path(__file__).resolve().parent
    places = [package / "bin" / "quench", package.parents[1] / "bin" / "quench"]
    if os.environ.get("QUENCH_DRIVER"):
        places = [Path(os.environ["QUENCH_DRIVER"])]
    for place in places:
        if place.is_file():
            return str(place)
    raise Error("the quench program was not found: " + ", ".join(map(str, places)))


def _run(*arguments):
    """Runs the driver; returns its standard output. A failure is an Error with the driver's message."""
    done = subprocess.run([driver(), *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise Error(done.stderr.strip().removeprefix("error: ") or f"quench ended with status {done.returncode}")
    if done.stderr:
        print(done.stderr, end="", file=sys.stderr)
    return done.stdout


def _options(**values):
    """Command-line options of keyword arguments; None is left out."""
    result = []
    for name, value in values.items():
        if value is not None:
            result += ["--" + name.replace("_", "-"), os.fspath(value) if hasattr(value, "__fspath__") else str(value)]
    return result


def compile(model, output, recipe=None, cpu=None, threads=None, save_recipe=None):
    """Compiles an ONNX model into `output` and returns its path.

    recipe: the name of a built-in recipe, or a YAML file. cpu: "native", or an LLVM name of a processor. Raises Error
    with the compiler's message, which names the node or file.
    """
    _run("compile", model, "-o", output, *_options(recipe=recipe, cpu=cpu, threads=threads, save_recipe=save_recipe))
    return os.fspath(output)


def evaluate(model, data, reference=None, tokenizer=None, context=None, threads=None):
    """Perplexity of a compiled language model on a text or on token ids (a .txt or .npy file).

    With `reference`, an ONNX or compiled model, also the KL divergence to it and how often the top token is the same.
    Returns a dict with at least "perplexity" and "tokens", and "kl" and "top1" with a reference.
    """
    out = _run("eval", model, "--data", data, "--json",
               *_options(reference=reference, tokenizer=tokenizer, context=context, threads=threads))
    return json.loads(out)


def inspect(model):
    """What a compiled model consists of: layers, formats, bits per weight."""
    return json.loads(_run("inspect", model, "--json"))


def main():
    """The command `quench` of the installed package."""
    try:
        program = driver()
    except Error as error:
        sys.exit(f"error: {error}")
    os.execv(program, [program, *sys.argv[1:]])
