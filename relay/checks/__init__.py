"""``signalbus-relay check``: everything that a deployment can get wrong, each with its remedy.

Invariant: a check changes nothing. Codes of findings are public: see :mod:`relay.checks.finding`.
"""
