"""How much noise and attack does a network survive, and what does dropping frequencies or bits buy?"""

import os

# Foolbox imports GitPython, which refuses to load where no git executable exists unless told to be quiet.
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

__version__ = "0.1.0"
