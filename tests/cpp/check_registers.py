"""Do all sums of the register tile stay in registers? Reads the disassembly of cpu/matmul/micro_kernel.cpp.

    check_registers.py micro_kernel.cpp.o

A compiler may, after an innocent change, keep a sum on the stack: right answers at half the speed, which no other test
sees. So in every loop of the full tile that multiplies: MR * NV fused multiply-adds a step; beside them, for vectors, only
loads, broadcasts and at most one move a step (renamed away); no vector is stored or comes from the stack. One loop at
least, the longest way of k, does not touch the stack even for its counters. MR and NV are those of the largest tile in
the object file.
"""

import re
import shutil
import subprocess
import sys
from collections import Counter

SKIPPED = 77
NAME = re.compile(r"register_tile<(float|double), (\d+), (\d+), ")
# objdump prints `  address:<tab>mnemonic operands`, and a jump's target as an address first.
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(?:\{\w+\} )?([a-z]\w*)\s*(.*?)\s*$")


def functions(disassembly):
    """name -> [(address, mnemonic, operands)]"""
    found, current = {}, None
    for line in disassembly.splitlines():
        if head := re.match(r"^[0-9a-f]+ <(.*)>:$", line):
            current = found.setdefault(head.group(1), [])
        elif current is not None and (i := INSTRUCTION.match(line)):
            current.append((int(i.group(1), 16), i.group(2), i.group(3)))
    return found


def loops(code):
    """The innermost loops: what lies between the target of a jump back and the jump, with no other such within."""
    spans = []
    for address, mnemonic, operands in code:
        target = re.match(r"[0-9a-f]+", operands)
        if mnemonic.startswith("j") and target and code[0][0] <= int(target.group(), 16) <= address:
            spans.append((int(target.group(), 16), address))
    for begin, end in spans:
        if not any((b, e) != (begin, end) and begin <= b and e <= end for b, e in spans):
            yield [i for i in code if begin <= i[0] <= end]


def multiplies(loop):
    return any(mnemonic.startswith("vfmadd") for _, mnemonic, _ in loop)


def faults(loop, sums):
    """What is wrong with a loop that multiplies."""
    multiply_adds = sum(mnemonic.startswith("vfmadd") for _, mnemonic, _ in loop)
    if multiply_adds % sums:
        yield f"{multiply_adds} multiply-adds, which is no multiple of {sums}"
    moves = 0
    for _, mnemonic, operands in loop:
        if not re.search(r"%[xyz]mm", operands):
            continue
        *_, destination = re.split(r",(?![^(]*\))", operands)  # commas within (%rax,%rbx,4) do not count
        if "(" in destination:
            yield f"a vector is stored: {mnemonic} {operands}"
        elif "(%rsp" in operands:
            yield f"a vector comes from the stack: {mnemonic} {operands}"
        elif mnemonic.startswith("vmov") and "(" not in operands:
            moves += 1
        elif not mnemonic.startswith(("vfmadd", "vbroadcast", "vmov")):
            yield f"neither multiply-add nor load: {mnemonic} {operands}"
    if moves > multiply_adds / sums:
        yield f"{moves} moves between registers in {multiply_adds / sums:g} steps"


def main(path):
    if not shutil.which("objdump"):
        print("objdump is not installed: registers are not checked")
        return SKIPPED
    text = subprocess.check_output(["objdump", "-d", "-C", "--no-show-raw-insn", path], text=True)
    tiles = [(name, code, m) for name, code in functions(text).items() if (m := NAME.search(name))]
    if not tiles:
        print(f"{path}: no function register_tile<T, rows, vectors, ...>")
        return 1
    rows, vectors = (max(int(m.group(i)) for _, _, m in tiles) for i in (2, 3))
    full = [(name, code) for name, code, m in tiles if (int(m.group(2)), int(m.group(3))) == (rows, vectors)]
    bad = 0
    for name, code in full:
        multiplying = [loop for loop in loops(code) if multiplies(loop)]
        wrong = [f for loop in multiplying for f in faults(loop, rows * vectors)]
        if not multiplying:
            wrong.append("no loop with multiply-adds")
        elif all(any("(%rsp" in operands for _, _, operands in loop) for loop in multiplying):
            wrong.append("every loop uses the stack")
        short = re.sub(r"glassgrad::|\(anonymous namespace\)::|\(Order\)|void |>\(.*", "", name)
        sizes = ", ".join(str(len(loop)) for loop in multiplying)
        print(f"{short}>: loops of {sizes} instructions, {len(wrong)} faults")
        for fault, count in Counter(wrong).items():
            print(f"    {fault}" + (f"  ({count} times)" if count > 1 else ""))
        bad += len(wrong)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
