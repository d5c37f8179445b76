"""Where the network looked: heat maps, their scores, regions, sanity checks and galleries."""

from hemtrace.explain.stage import Explanation, Products, explain, explain_nets

__all__ = ["Explanation", "Products", "explain", "explain_nets"]
