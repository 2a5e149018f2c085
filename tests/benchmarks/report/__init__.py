"""The report: made of the figures alone, so that it can be written anew without measuring."""
