"""damage.py FILE FOLDER: writes truncated.so and altered.so, which has one bit of the middle turned."""

import sys
from pathlib import Path

data = bytearray(Path(sys.argv[1]).read_bytes())
folder = Path(sys.argv[2])
(folder / "truncated.so").write_bytes(data[:-100])
data[len(data) // 2] ^= 1
(folder / "altered.so").write_bytes(data)
