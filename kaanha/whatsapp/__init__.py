"""How: the apps, accounts and phone numbers that lead into Meta's network, and the client that speaks with it."""
