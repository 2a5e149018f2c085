"""Operations for people while relays run; the commands and the HTTP site use them."""
