"""One rank and one GPU per unit: `mpirun -n K python -m mpi …` trains what `sideways train …` trains."""
