"""Checks durable subscriptions from outside: random trials of a real server, and rules that judge what was seen.

`hunt.py` runs trials. A trial (`trial.py`) writes a history (`history.py`), and `judge.py` has each rule read it.
"""
