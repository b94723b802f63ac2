"""`sideways bench …`: commands that measure, and print a table of what they measured."""
