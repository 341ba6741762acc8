"""A test authority: its files, what it signs, and how a token is traded for a certificate."""
