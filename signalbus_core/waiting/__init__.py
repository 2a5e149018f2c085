"""Lets a request wait until its signal has been sent."""
