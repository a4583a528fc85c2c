"""What: the message templates that Meta approved, and how their variables are filled."""
