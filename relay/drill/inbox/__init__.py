"""The drill's consumers with an inbox, which are killed at every step of their work, and the count of their effects."""
