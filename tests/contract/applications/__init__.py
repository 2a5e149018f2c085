"""One application in each of the ways to use SQLAlchemy: the same orders, the same signals."""
