"""First-person clips from Doom by way of ViZDoom: made by worker processes, labelled by the measured motion."""
