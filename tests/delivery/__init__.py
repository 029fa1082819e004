"""Checks durable subscriptions from outside, with random trials of a real server and rules that check their histories.

`hunt.py` runs trials. A trial (`trial.py`) records a history (`history.py`), and `judge.py` applies each rule to the history.
"""
