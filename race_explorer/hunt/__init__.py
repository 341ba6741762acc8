"""Search without the help of a scenario: composed actors under every guard."""
