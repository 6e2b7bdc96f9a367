"""CPU kernels that need no compiler on the user's machine: LLVM, through llvmlite's wheel, compiles them in memory.

A kernel is written with the vectors of `vectors.py`, `machine.py` compiles it for the CPU it runs on, `threads.py` runs
it on torch's threads. Every kernel takes one job (`job.py`) and works on it together with the other threads.
"""
