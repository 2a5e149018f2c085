"""How the send method of a model is called, and what it tells meanwhile: its progress, and which messages it made."""
