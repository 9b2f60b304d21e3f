"""Writes the seed corpus of a fuzz target: ``seeds.py DIRECTORY``. The same bytes every time."""

import random
import sys
from pathlib import Path

directory = Path(sys.argv[1])
directory.mkdir(parents=True, exist_ok=True)
for seed in range(128):  # about one in two takes each branch of a target's first choices
    source = random.Random(seed)
    (directory / f"seed{seed}").write_bytes(source.randbytes(source.randrange(8, 96)))
