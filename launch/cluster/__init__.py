"""Jobs on more than one machine: scripts for their engines, checks before they train, and what they will need."""
