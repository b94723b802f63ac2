"""Pictures of the schedule: the explorer, a page of chapters whose frames move and whose networks learn, and GIFs."""
