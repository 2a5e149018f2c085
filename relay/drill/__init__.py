"""The drill: relays of its own, on a table, an exchange and a queue of its own, are broken until the promise is proved.

Nothing of an application is touched. What the drill makes bears the drill's name, and is removed whatever happens.
"""
