"""The claims: each module holds an experiment or two, with the rules of its verdict."""
