"""The management API: one file a resource, one page of routes (routes.py).

The resources' functions are plain and raise AdminError; REST (handlers.py) and the UI call the same ones.
"""
