"""status.py STATUS COMMAND...: runs a command, and fails unless it ends with this exit status."""

import subprocess
import sys

done = subprocess.run(sys.argv[2:], stdin=subprocess.DEVNULL)
if done.returncode != int(sys.argv[1]):
    sys.exit(f"exit status {done.returncode}, {sys.argv[1]} expected: {' '.join(sys.argv[2:])}")
