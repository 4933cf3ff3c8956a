"""What tells change from no change."""
