"""Where the network looked: heat maps, their scores, regions, sanity checks and galleries."""
