"""Sends bursts, and decides what follows from them."""
