"""Decoupling search and learning in neural net training: search representations, then learn them.

The numeric core (`search` without its compiled paths, `learning`, `network`, `metrics`) needs torch and numpy alone;
files, configuration and commands are the other modules.
"""

__version__ = "0.1.0"
