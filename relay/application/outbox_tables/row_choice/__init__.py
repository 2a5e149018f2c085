"""Which rows of a table are signals, where the table marks its rows instead of deleting them."""
