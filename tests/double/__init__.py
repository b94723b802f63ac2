"""A device double: what CuPy is to its caller, with NumPy's arithmetic and a clock that finds missing synchronisation.

`clock.py` knows what has happened before what; `arrays.py` is `cupy.ndarray`, `namespace.py` the module `cupy`,
`signatures.py` holds both against the installed wheel. `messages.py` watches what is handed to MPI. `path/cupy.py` is
found by `import cupy` where that folder comes first on the path: so a process takes the double for the real thing.
"""
