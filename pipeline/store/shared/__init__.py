"""Runs that many hosts share: records in a database, files in a folder or an object store that all of them see."""
