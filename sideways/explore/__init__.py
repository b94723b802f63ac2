"""Pictures of the schedule: the explorer, a page on which the clock can be stepped, and animated GIFs."""
