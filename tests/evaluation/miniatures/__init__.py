"""Each file writes the official files of one benchmark in small, and says what asking it must give."""
