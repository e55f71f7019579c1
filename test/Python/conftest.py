"""What the Python tests share: where the build, the tools and the models beside the repository are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("QUENCH_BUILD", ROOT / "build"))
SHARED = Path(os.environ.get("QUENCH_SHARED", ROOT.parent / "shared"))

# The extension lies in build/python; without a build, the pure part of the package is tested.
for folder in (BUILD / "models-pkg", ROOT / "python", BUILD / "python"):
    if folder.is_dir():
        sys.path.insert(0, str(folder))


class Driver:
    """Runs build/bin/quench."""

    def __init__(self, path):
        self.path = path

    def __call__(self, *arguments, ok=True, timeout=300, **options):
        """Returns the finished process; with `ok` a failure fails the test and shows the message."""
        done = subprocess.run([str(self.path), *map(str, arguments)], capture_output=True, timeout=timeout,
                              text=options.pop("text", True), **options)
        assert not ok or done.returncode == 0, f"{' '.join(map(str, done.args))}\n{done.stderr}"
        return done


@pytest.fixture(scope="session")
def quench_driver():
    path = BUILD / "bin" / "quench"
    if not path.exists():
        pytest.skip("build/bin/quench is not built")
    return Driver(path)


@pytest.fixture(scope="session")
def shared():
    """The folder of models and data, or a skip where it is absent."""
    if not (SHARED / "models").is_dir():
        pytest.skip("no shared folder of models")
    return SHARED
