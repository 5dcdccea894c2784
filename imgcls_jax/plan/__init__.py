"""What a training will take on hardware that need not be here: its real steps, compiled by the real compilers."""
