"""Wakes the poller: LISTEN and NOTIFY, and the election of the replica that answers the doorbells."""
