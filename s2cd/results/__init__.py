"""What people do with a change map."""
