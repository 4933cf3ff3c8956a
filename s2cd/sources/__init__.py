"""Where dates come from: what a source offers, which two dates to take, and getting them."""
