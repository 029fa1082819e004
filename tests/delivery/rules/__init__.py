"""The rules that a history must obey, one file for each. `judge.py` in the package above lists and applies them."""
