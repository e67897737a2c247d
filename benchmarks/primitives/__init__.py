"""What each primitive costs: locks, messages, decisions, breakers, conflicts."""
