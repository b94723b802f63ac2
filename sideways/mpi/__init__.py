"""Training over K ranks (processes), each with a group of units, and a GPU if any: `mpirun -n K sideways train …`."""
