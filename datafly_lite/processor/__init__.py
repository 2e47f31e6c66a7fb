"""The data layer once an event, then each integration's steps; one transaction for all that follows."""
