"""The rules that a history must follow, one file for each. `judge.py` in the package above lists and runs them."""
