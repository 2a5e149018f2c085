"""``signalbus-relay check``: everything that a deployment can get wrong, each with its remedy.

Invariant: a check changes nothing. :mod:`relay.checks.finding` lists the findings, whose codes are public; the module
of its area finds each.
"""
