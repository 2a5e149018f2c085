"""Where one signal is, and why.

``facts`` asks the database, ``messages`` the application and the broker, ``story`` tells.
"""
