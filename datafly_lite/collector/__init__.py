"""The JavaScript collector: chosen modules, linked, compiled, served. Its sources are in web/collector/."""
