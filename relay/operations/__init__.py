"""What a person can do while relays run; commands and the HTTP site use it."""
