"""What is measured: each module measures one question, one round at a time."""
