"""Events by a private tracefs instance."""
