"""The servers that a relay uses: the URL of its database, and when a server that is away is tried again."""
