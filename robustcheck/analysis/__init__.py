"""Analysis: what the numbers of a study allow to be said."""
