"""The lock of all code that runs a user's models or data: one thread of a process at a time.

Such code seeds and restores the global random generators of torch, numpy and Python, and global settings. If
two threads did so at once, each would draw numbers of the other.
"""

from threading import RLock

LOCK = RLock()  # a model may measure another one in its own thread
