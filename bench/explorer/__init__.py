"""How fast the race explorer is, what it finds how soon, and what reductions are worth."""
