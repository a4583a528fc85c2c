"""What Meta tells us: callbacks, stored before they are believed, then routed to the floors below."""
