"""The drill: fault injection into its own relays, on its own table, exchange and queue, to prove that nothing is lost.

Invariant: it uses nothing of an application. Whatever it creates has the drill's name, and is removed at the end.
"""
