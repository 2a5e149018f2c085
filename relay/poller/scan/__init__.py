"""What a poll reads of each model, and from which key on."""
