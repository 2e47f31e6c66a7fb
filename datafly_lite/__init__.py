"""A self-hosted customer data platform in one process and one SQLite file."""

__version__ = "0.1.0"
