"""Order by key: which signals a burst may take so that none overtakes an earlier one of its key."""
