"""What the scripts measure-* share: the driver, recipes of one rule, results that are kept between runs."""
import json
import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
QUENCH = os.environ.get("QUENCH", os.path.join(ROOT, "build", "bin", "quench"))
DOCS = os.path.join(ROOT, "docs", "Measured")


def quench(*args):
    """Runs the driver; its standard output. Ends the program with the driver's message if it fails."""
    done = subprocess.run([QUENCH, *args], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"quench {' '.join(args)}: {done.stderr.strip()}")
    return done.stdout


def write_recipe(path, fmt, quantizer, rotate="none", tables="keep"):
    """A recipe with one rule for linear layers and one for embedding and head; returns its path."""
    with open(path, "w") as f:
        f.write(f"name: row\nrotate: {rotate}\nrules:\n  - role: embedding, head\n    format: \"{tables}\"\n    optional: true\n"
                f"  - role: linear\n    format: \"{fmt}\"\n    quantizer: \"{quantizer}\"\n")
    return path


class Results(dict):
    """Measured rows by their keys, saved after each. Several processes may measure rows of one file."""

    def __init__(self, path):
        self.path = path
        self.load()

    def load(self):
        if os.path.exists(self.path):
            with open(self.path) as f:
                self.update(json.load(f))

    def add(self, key, row):
        self.load()
        self[key] = row
        print(f"{key}: {row}", flush=True)
        with open(self.path + ".new", "w") as f:
            json.dump(self, f, indent=1)
        os.replace(self.path + ".new", self.path)
