"""Many pairs: a CSV of them to a folder of maps, side by side, each as `detect_files` makes it."""
