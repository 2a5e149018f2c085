"""The state of one signal, and why it is not sent.

``gather`` queries the database, ``routes`` the application and the broker, ``render`` writes the text.
"""
