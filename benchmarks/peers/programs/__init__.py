"""The sides' programs, each run by the interpreter of its library's environment, by its path."""
