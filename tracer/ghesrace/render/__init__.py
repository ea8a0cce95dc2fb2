"""What people and programs read: reports and plans as text, JSON and scripts."""
