"""A device double: CuPy as its caller sees it, with NumPy's arithmetic and a clock that finds missing synchronisation.

`clock.py` knows the order of all work; `arrays.py` is `cupy.ndarray`, `namespace.py` the module `cupy`, and
`signatures.py` compares both with the installed wheel. `messages.py` watches the memory that is handed to MPI. Where
the folder `path` comes first on a process's path, `import cupy` finds `path/cupy.py`: the double.
"""
