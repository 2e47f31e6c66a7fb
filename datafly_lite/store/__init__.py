"""The only SQL of the product. One file a noun; each function takes an open connection.

Functions that change rows run inside the writer's transaction (`Store.write`), those that only
read run on a read-only connection (`Store.read`).
"""

from datafly_lite.store.db import Store

__all__ = ["Store"]
