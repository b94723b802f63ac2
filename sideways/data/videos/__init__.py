"""Video files: data sets and their official lists, single files, and clips decoded ahead of the tick."""
