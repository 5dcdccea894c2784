"""A grid of settings and seeds: many small networks, trained together in one program."""
