"""Has a kernel become slower? Counts instructions under callgrind, which no noise touches, against instructions.json.

    instructions.py build/cpp/kernel_counts_avx2            fails if a kernel needs more than 5 % more than recorded
    instructions.py build/cpp/kernel_counts_avx2 --update   records what they need now

Instructions are not time: a cache miss costs none. But a lost vectorisation, a spill or a forgotten copy shows, on any
machine, in seconds. Compiled for AVX2, since valgrind knows no AVX-512. Another compiler writes other code: its counts
are printed, not judged.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

RECORD = Path(__file__).with_name("instructions.json")
TOLERANCE = 0.05


def compiler(program):
    """What the compiler signed the program with: `GCC: (Debian 12.2.0-14) 12.2.0`."""
    text = subprocess.check_output(["strings", "-a", program], text=True)
    return (re.findall(r"^(?:GCC: |clang version ).*", text, re.MULTILINE) or ["unknown"])[0]


def count(program, kernel):
    """Instructions between the beginning and the end of the function `counted`."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", "--toggle-collect=counted", f"--callgrind-out-file={folder}/out"]
        done = subprocess.run([*command, program, kernel], capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found or int(found.group(1)) == 0:
        sys.exit(f"{kernel}: callgrind counted nothing:\n{done.stderr}")
    return int(found.group(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("program", help="kernel_counts_avx2 of the build tree")
    parser.add_argument("--update", action="store_true", help="record what is counted now")
    args = parser.parse_args()
    missing = [tool for tool in ("valgrind", "strings") if not shutil.which(tool)]
    if missing:
        print(f"{' and '.join(missing)} not installed: instructions are NOT checked")
        return 0
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"compiler": None, "instructions": {}}
    signed = compiler(args.program)
    kernels = subprocess.check_output([args.program], text=True).splitlines()
    counts = {kernel: count(args.program, kernel) for kernel in kernels}
    if args.update:
        RECORD.write_text(json.dumps({"compiler": signed, "instructions": counts}, indent=1) + "\n")
    judged = signed == record["compiler"]
    worse, better = [], []
    for kernel, now in counts.items():
        before = record["instructions"].get(kernel)
        change = now / before - 1 if before else 0.0
        print(f"{kernel:32}{now:>10}" + (f" {change:+7.1%}" if before else "     new"))
        if change > TOLERANCE or (not before and judged):
            worse.append(kernel)
        elif change < -TOLERANCE:
            better.append(kernel)
    if args.update:
        print(f"written: {RECORD}")
        return 0
    if not judged:
        print(f"not judged: recorded with {record['compiler']}; this is {signed}")
        return 0
    if better:
        print(f"fewer than recorded, record it with --update: {', '.join(better)}")
    if worse:
        print(f"more than {TOLERANCE:.0%} above the record, or not in it: {', '.join(worse)}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
