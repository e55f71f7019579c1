"""compare-npy.py BEFORE AFTER TOLERANCE [NAME...]: the .npy files of two folders.

The greatest difference relative to the greatest absolute value of the first folder's array must not exceed the
tolerance. With names, only these files.
"""

import pathlib
import sys

import numpy

before, after = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
tolerance, names = float(sys.argv[3]), sys.argv[4:]
files = [before / f"{name}.npy" for name in names] or sorted(before.glob("*.npy"))
if not files:
    sys.exit(f"{before}: no files")
failed = False
for path in files:
    x, y = numpy.load(path), numpy.load(after / path.name)
    if x.shape != y.shape:
        sys.exit(f"{path.name}: shapes {x.shape} and {y.shape}")
    difference = float(abs(x.astype("f8") - y).max() / abs(x).max())
    print(f"{path.stem}: {difference:.2e}")
    # A difference that is no number fails, too.
    failed |= not difference <= tolerance
sys.exit(failed)
