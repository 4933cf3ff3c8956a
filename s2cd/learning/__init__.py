"""How a network learns, and how well it does."""
