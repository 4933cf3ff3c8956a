"""Two stacks to a change map."""
